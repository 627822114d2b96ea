--- Every class of layers, one by one: sizes, shapes, specs, states, copies, dtypes, gradients, and what it says of bad input.

local ai = require "aijit"
local registry = require "aijit.nn.registry"
local walk = require "spec.support.walk"
local nn = ai.nn

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message
end

local function text_of(shape) return "(" .. table.concat(shape, ", ") .. ")" end

--- Calls visit(tensor) on the tensors of a result.
local function each(value, visit)
  if ai.is_tensor(value) then visit(value)
  elseif type(value) == "table" then
    for i = 1, #value do each(value[i], visit) end
    for _, key in ipairs{"att", "ffn", "x", "wkv"} do if value[key] ~= nil then each(value[key], visit) end end
  end
end

local function shapes_of(...)
  local list = {}
  each({...}, function(t) list[#list + 1] = text_of(t.shape) end)
  return list
end

--- What output_shape says, in the same form.
local function said(...)
  local list = {}
  local function see(value)
    if type(value) ~= "table" then return end
    if #value == 0 and next(value) == nil or type(value[1]) == "number" then
      list[#list + 1] = text_of(value)
      return
    end
    for i = 1, #value do see(value[i]) end
    for _, key in ipairs{"att", "ffn", "x", "wkv"} do if value[key] ~= nil then see(value[key]) end end
  end
  for i = 1, select("#", ...) do see((select(i, ...))) end
  return list
end

local function same(a, b)
  local list, i = {}, 0
  each(a, function(t) list[#list + 1] = t end)
  each(b, function(t)
    i = i + 1
    assert.are.same(list[i].shape, t.shape)
    assert.is_true(t:equal(list[i]):item() or (t:double() - list[i]:double()):abs():max():item() == 0)
  end)
  assert.are.equal(#list, i)
end

local function state_shapes(module)
  local shapes = {}
  for name, t in pairs(module:state_dict()) do shapes[name] = text_of(t.shape) end
  return shapes
end

local function doubled(...)
  local list = {...}
  local function double(value)
    if ai.is_tensor(value) then return value:is_floating_point() and value:double() or value end
    local out = {}
    for i, inner in ipairs(value) do out[i] = double(inner) end
    return out
  end
  return unpack(double(list))
end

it("every class of layers is walked, or there is a reason why not", function()
  local missing = {}
  for _, name in ipairs(registry.names()) do
    local class = registry.find(name)
    if class ~= nn.Module and not walk[name] and not walk.apart[name] and (nn[name] == class or rawget(class, "arguments")) and (nn[name] or walk[name]) then
      missing[#missing + 1] = name
    end
    assert(not (walk[name] and walk.apart[name]), name)
  end
  assert.are.same({}, missing)                   -- each wants a row in spec/support/walk.lua, or a reason there
  for name in pairs(walk.apart) do assert(registry.find(name), name) end
end)

local rows = {}
for name, row in pairs(walk) do if name ~= "apart" then rows[#rows + 1] = {name = name, row = row} end end
table.sort(rows, function(a, b) return a.name < b.name end)

for _, entry in ipairs(rows) do
  local name, row = entry.name, entry.row

  describe(name, function()
    it("tells its output's shape without memory, and keeps its word", function()
      local module = row.make()
      assert(registry.find(name))
      for _, training in ipairs{false, true} do
        module:train(training)
        local inputs = {row.input()}
        local state = next(module:state_dict()) and module:clone():state_dict() or {}
        local told = said(module:output_shape(unpack(inputs)))
        local many = {}
        for i, t in ipairs(inputs) do
          if ai.is_tensor(t) then
            local shape = {unpack(t.shape)}
            shape[1] = shape[1] * 2 ^ 14
            many[i] = ai.empty(shape, {dtype = t.dtype, device = "meta"})
          end
        end
        collectgarbage()
        ai.set_memory_limit(ai.memory().cpu.live + 2 ^ 17)         -- headers of tensors alone
        local ok, message = pcall(function() if #many > 0 then module:output_shape(unpack(many)) end end)
        ai.set_memory_limit(0)
        assert(ok, message)
        for key, t in pairs(module:state_dict()) do assert.is_true(t:equal(state[key]):item(), key) end
        assert.are.same(shapes_of(module(unpack(inputs))), told)
      end
    end)

    if row.infer then
      it("infers what is left out, at the first call, from a shape, in a graph, and from a state", function()
        local whole, inputs = row.make(), {row.input()}
        local wanted = state_shapes(whole)
        local waiting = row.infer()
        assert.are.same(said(whole:output_shape(unpack(inputs))), said(waiting:output_shape(unpack(inputs))))
        if next(wanted) and #whole:present_parameters() > 0 then
          assert.matches("sizes come from the first input", message_of(waiting.parameters, waiting))
        end
        waiting(unpack(inputs))
        assert.are.same(wanted, state_shapes(waiting))
        assert.are.equal(tostring(whole), tostring(waiting))
        if #inputs == 1 then
          assert.are.same(wanted, state_shapes(row.infer():infer(unpack(inputs[1].shape))))
          local x = nn.Placeholder{unpack(inputs[1].shape)}
          local inner = row.infer()
          inner(x)
          assert.are.same(wanted, state_shapes(inner))
        end
        if next(wanted) then
          local loaded = row.infer():load_state_dict(whole:state_dict())
          if not row.random then same({whole:eval()(unpack(inputs))}, {loaded:eval()(unpack(inputs))}) end
        end
      end)
    end

    it("goes through a spec and a state, and is copied", function()
      local module, inputs = row.make():eval(), {row.input()}
      local y = {module(unpack(inputs))}
      local spec = module:to_spec()
      for _, again in ipairs{nn.from_spec(spec), nn.from_spec(ai.json.decode(ai.json.encode(spec))), nn.from_spec(ai.yaml.decode(ai.yaml.encode(spec)))} do
        assert.are.equal(tostring(module), tostring(again))
        local _, report = again:load_state_dict(module:state_dict())
        assert.are.same({{}, {}, {}}, {report.missing, report.unexpected, report.mismatched})
        same(y, {again:eval()(unpack(inputs))})
      end
      local copy = module:clone()
      same(y, {copy(unpack(inputs))})
      for i, p in ipairs(copy:parameters()) do
        local own = module:parameters()[i]
        assert.is_false(p:is_same(own))
        ai.no_grad(function() p:fill_(0.25) end)
      end
      same(y, {module(unpack(inputs))})
      if next(module:state_dict()) then
        copy:share(module)
        for i, p in ipairs(copy:parameters()) do assert.is_true(p:is_same(module:parameters()[i])) end
        same(y, {copy(unpack(inputs))})
      end
    end)

    it("changes its dtype and its mode, keeps its parameters, and can be printed", function()
      local module = row.make()
      local before = module:parameters()
      module:to "f64"
      for i, p in ipairs(module:parameters()) do
        assert.is_true(p:is_same(before[i]))
        assert.are.equal("f64", p.dtype)
      end
      assert.are.equal(false, module:eval().training)
      each({module(doubled(row.input()))}, function(t) if t:is_floating_point() then assert.are.equal("f64", t.dtype) end end)
      assert.are.equal(true, module:train().training)
      assert.is_truthy(tostring(module):find(name, 1, true) or not nn[name])
      assert.is_truthy(tostring(module:summary(doubled(row.input()))):find "parameters")
    end)

    if not row.whole then it("lets gradients flow to every parameter and to what is given", function()
      local module = row.make()
      local inputs = {row.input()}
      local leaves = {}
      each(inputs, function(t)
        if t:is_floating_point() then leaves[#leaves + 1] = t:requires_grad_(true) end
      end)
      local total
      each({module(unpack(inputs))}, function(t)
        if not t:is_floating_point() or not t.requires_grad then return end
        local part = (t * ai.randn(t.shape)):sum()
        total = total and total + part or part
      end)
      total:backward()
      for parameter, p in module:named_parameters() do assert.is_truthy(p.grad, parameter) end
      for i, t in ipairs(leaves) do assert(t.grad or row.unused == i) end
    end) end

    if row.wrong then
      it("says where it is and what shape it was given, when that is wrong", function()
        local net = nn.Sequential{nn.Sequential{nn.Lambda(function(x) return x end)}}
        net[1]:append(row.make())
        local shapes = type(row.wrong[1]) == "table" and row.wrong or {row.wrong}
        local inputs = {}
        for i, s in ipairs(shapes) do inputs[i] = ai.randn(s) end
        local message
        if #inputs == 1 then message = message_of(net, inputs[1])
        else
          local holder = nn.Module()
          holder.part = row.make()
          holder.forward = function(self) return self.part(unpack(inputs)) end
          message = message_of(holder)
          assert.matches("Module%.part", message)
        end
        assert.matches(#inputs == 1 and "Sequential%[1%]%[2%]" or "part", message)
        assert.is_truthy(message:find(text_of(shapes[1]), 1, true) or message:find(table.concat(shapes[1], ", "), 1, true), message)
      end)
    end

    it("says what it wants where it is given no tensor", function()
      if name:find "^Identity" then return end                    -- they hand on anything
      for _, make in ipairs{row.make, row.infer} do
        for _, given in ipairs{false, 3, "x", true, function() end} do
          local ok, message = pcall(make(), given or nil)
          assert.is_false(ok)
          assert.is_nil(message:find "attempt to" or message:find "bad argument", message)
        end
      end
    end)

    local class = registry.find(name)
    if class and class.arguments and #class.arguments > 0 then
      it("refuses arguments by name and type", function()
        assert.matches("no argument 'nothing'", message_of(class, {nothing = 1}))
        for _, argument in ipairs(class.arguments) do
          local options = row.make():to_spec()
          options.type, options[argument.name] = nil, io.stdout
          local ok, message = pcall(class, options)
          assert(not ok, argument.name)
          assert.is_truthy(message:find(name .. ": " .. argument.name .. " is ", 1, true), message)
          assert.matches("wanted", message)
        end
      end)
    end
  end)
end
