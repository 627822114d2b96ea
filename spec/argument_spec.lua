--- Every constructor and every function that declares its arguments refuses wrong types, numbers out of range and misspelt names,
--- at the caller's line, by its own name and that of the argument. The declarations are the table that is walked; what each
--- kind of argument must refuse stands here, and what a kind of one class refuses is found among values of all sorts.

local ai = require "aijit"
local argument = require "aijit.argument"
local fn = require "aijit.fn"
local m = require "aijit.model"
local registry = require "aijit.nn.registry"
local nn, optim = ai.nn, ai.optim

local NAN, INF = 0 / 0, math.huge
local function double(x) return x end

--- kind -> a right value, wrong ones. Every kind refuses values of the types that it is not, besides.
local kinds = {
  count = {4, 0, -1, 1.5, NAN, INF, "3", {3}}, size = {4, -1, 1.5, NAN, INF, "3", {3}}, integer = {1, 1.5, NAN, INF, "1"},
  position = {1, 0, 1.5, NAN, INF, "1"}, kernel = {1, 0, -1, 1.5, NAN, "3", {0}}, stride = {1, 0, -1, 1.5, NAN, "3", {"1"}},
  padding = {0, -1, 0.5, "full", NAN}, conv_padding = {"same", -1, 0.5, "full", NAN}, plain_padding = {"same", -1, "causal"},
  extra = {1, -1, 0.5, "1", NAN}, part = {0.1, -0.1, 1, NAN, "0.5"}, probability = {0.1, -0.1, 1.1, NAN, "0.5"},
  positive = {1, 0, -1, NAN, INF, "1"}, not_negative = {1, -1, NAN, INF, "1"}, at_least_one = {1, 0.5, NAN, "1"}, share = {0.5, 0, 1.1, NAN},
  finite = {1, NAN, INF, "1"}, number = {1, NAN, "1"}, momentum = {0.1, -0.1, 1.1, "some"}, slopes = {1, 0, 1.5, "rows"},
  shape = {4, -1, 1.5, "4", {-1}}, sizes = {{2, 2}, 4, {1.5}, {-2}}, counts = {{4, 4}, 4, {0}, {1.5}, {"4"}}, count_or_counts = {4, 0, 1.5, {0}},
  factors = {2, 0, -1, "2", {0}}, margins = {1, 1.5, "1", {1}, {1, 0.5}}, taps = {{1, 3, 3, 1}, 1, {"1"}, {NAN}}, levels = {{3, 3}, 3, {1}, {2.5}},
  betas = {{0.9, 0.99}, 0.9, {0.9}, {1, 0.9}, {-0.1, 0.9}, {"0.9", 0.9}}, betas3 = {{0.9, 0.9, 0.9}, {0.9, 0.9}, {1, 0.9, 0.9}},
  coefficients = {{1, 2, 3}, {1, 2}, {1, "2", 3}}, range = {{0.5, 1.5}, {1}, {0, 1}, 1}, steps = {{1, 2}, 1, {-1}, {"1"}},
  names = {{1}, 1, "x"},
  patterns = {"bias", 1, {1}},
  schedules = {{optim.ConstantLR(optim.SGD{nn.Parameter(ai.ones(2))})}, 3, {3}}, tensor = {ai.ones(2, 4, 4), 3, "x", {1}},
  states = {{ai.ones(2, 4), ai.ones(2, 4)}, 3, {ai.ones(1)}, ai.ones(1)},
  flag = {true, 1, "true", {1}}, text = {"weight", 3, {1}}, module = {nn.Identity(), 3, "fc", double}, layer = {nn.Identity(), 3, "fc"},
  ["function"] = {double, 3, "relu", {1}}, activation = {"relu", 3, true, {1}}, actv = {"relu", 3, "rellu", true}, model_norm = {"batch", 3, "bach", true},
  noise = {true, -1, "yes", NAN}, initializer = {"zeros", true, NAN}, norm_dim = {1, 0, 1.5, "1"}, reduction = {"mean", "avg", 1},
  reduction_of_batches = {"mean", "avg"}, padding_mode = {"zeros", "zeroes", 1}, nonlinearity = {"tanh", "tan"}, approximate = {"tanh", "tan", 1},
  float_dtype = {"f32", "i64", "f3"}, values = {{1, 2}, 3, "x", {"1"}}, anything = {"cpu"},
}

-- Of a kind that one class alone has, what it refuses is told by asking it.
local sorts = {0, -1, 1.5, NAN, INF, "?!", "1", true, {"x"}, {-1}, double}

local function refused_by(test)
  local list = {}
  for _, value in ipairs(sorts) do if test(value) then list[#list + 1] = value end end
  assert(#list >= 3, "a kind refuses nearly nothing")
  return list
end

--- What does not follow from the kinds: right arguments by call and name.
local right = {
  ["optim.range_test"] = {optimizer = optim.SGD{nn.Parameter(ai.ones(2))}}, ["nn.GetRNNState"] = {part = "h"},
  ["m.pyramid"] = {size_in = 8, size_out = 4, block = function(_, a, b) return m.conv(a, b) end},
  ["m.ae.ImgAutoencoder"] = {imsize = 8, bottleneck = 4},
  ["m.resample"] = {scale = 2}, ["nn.lora"] = {module = nn.Linear(3, 4)}, ["nn.lora_weight"] = {module = nn.Linear(3, 4)},
  ["nn.weight_norm"] = {module = nn.Linear(3, 4)},
  ["nn.spectral_norm"] = {module = nn.Linear(3, 4)}, ["nets.token_embed"] = {ids = ai.ones(2, {dtype = "i64"})},
}
for _, pad in ipairs{"Constant", "Circular", "Reflection", "Replication", "Zero"} do
  for n = 1, 3 do right[("nn.%sPad%dd"):format(pad, n)] = {padding = 1} end
end
for n = 1, 3 do
  local image = ai.ones({1, 4, n > 0 and 5 or nil, n > 1 and 5 or nil, n > 2 and 5 or nil})
  right[("nets.conv_%dd"):format(n)], right[("nets.conv_transpose_%dd"):format(n)] = {x = image}, {x = image}
end

local function found(call)
  local at = {nn = nn, m = m, optim = optim}
  for name in call:gmatch "[^.:]+" do
    if at == nn then at = rawget(nn, name) or registry.find(name) else at = at and rawget(at, name) end
  end
  return at
end

--- A function of a call's arguments, for its declaration; nil: it is not one that a program makes.
local function caller(call)
  local name = call:match "^nets%.(.*)$"
  if name == "dropout" then return function(...) return fn.nets.dropout({}, fn.key(1), ...) end end
  if name and name:find "^apply" then return fn.nets[name] end
  if name then
    return function(...)
      local args, n = {...}, select("#", ...)
      return fn.trace(function(params) return (fn.nets[name](params, unpack(args, 1, n))) end, fn.key(1))
    end
  end
  local f = not call:find "_mask$" and found(call)         -- masks have an argument between those and their options
  if not f then return nil end
  local p = nn.Parameter(ai.ones(2, 2))
  if argument.declared[call].leading == "params" then return function(...) return f({p}, ...) end end
  if argument.declared[call].leading == "optimizer" then return function(...) return f(optim.SGD{p}, ...) end end
  if argument.declared[call].leading == "model" then return function(...) return f({p}, ...) end end
  if argument.declared[call].leading == "task" then return function(...) return f(double, ...) end end
  return f
end

local function kind_of(declared, one)
  local class = declared.call:match "^nn%." and registry.find(declared.who)
  return declared:kind_of(one, class and class.argument_rules)
end

--- What is right and what is wrong for an argument.
local function values_of(declared, one)
  local kind = kind_of(declared, one)
  local own = (right[declared.call] or {})[one.name]
  local values
  if type(kind) == "function" or not kind:find "|" and not kinds[kind] then
    local test = type(kind) == "function" and kind or assert(argument.kinds[kind], kind)
    values = {one.default or tostring(test(io.stdout)):match "^\"([^\"]+)\"" or true, unpack(refused_by(function(value) return test(value, declared.dims) end))}
  elseif kind:find "|" then values = {kind:match "^[^|]+", kind:match "^[^|]+" .. "?", 7}
  else values = assert(kinds[kind], declared.call .. " " .. one.name) end
  return own == nil and values[1] or own, {unpack(values, 2)}
end

--- Right arguments, the required ones in order and the others left out, but for one; `more` goes among the named ones.
local function arguments_of(declared, changed, value, more)
  local list, options = {}, more or {}
  for _, one in ipairs(declared.list) do
    local v
    if one.name == changed then v = value else v = (values_of(declared, one)) end
    if one.required then
      assert(v ~= nil, declared.call .. ": this spec has no right value of " .. one.name)
      list[#list + 1] = v
    elseif one.name == changed then options[one.name] = v end
  end
  if next(options) then list[#list + 1] = options end
  return list
end

local function message_of(f, args)
  local ok, message = pcall(function() return f(unpack(args)), nil end)
  return not ok and message or nil
end

local calls = {}
for call in pairs(argument.declared) do calls[#calls + 1] = call end
table.sort(calls)

for _, call in ipairs(calls) do
  local declared = argument.declared[call]
  local f = caller(call)
  if f then
    it(call .. " refuses what it cannot take, by name", function()
      for _, one in ipairs(declared.list) do
        local _, wrong = values_of(declared, one)
        if kind_of(declared, one) == "anything" then assert.are.equal("device", one.name) else wrong[#wrong + 1] = io.stdout end
        for _, value in ipairs(wrong) do
          local message = message_of(f, arguments_of(declared, one.name, value))
          local what = ("%s: %s = %s"):format(call, one.name, argument.described(value))
          assert(message, what .. " is taken")
          assert.matches("^[^\n]*argument_spec%.lua:%d+: ", message, what)
          assert(message:find(("%s: %s is "):format(declared.who, one.name), 1, true), what .. ": " .. message)
        end
        if not one.required then
          local name = one.name .. "x"
          local message = assert(message_of(f, arguments_of(declared, nil, nil, {[name] = 1})), call .. " takes " .. name)
          assert.matches("argument_spec%.lua:%d+: .*it has no argument '" .. name .. "': did you mean .*'" .. one.name .. "'", message)
        end
      end
    end)
  end
end

-- What declares nothing, and why.
local bare = {}
local function without(reason, names) for name in names:gmatch "%S+" do bare[name] = reason end end
without("takes modules, any number of them",
  "nn.Sequential nn.ModuleList nn.ModuleDict nn.TimeDistributed nn.StreamableCBR nn.BiFPNBlock m.seq m.modseq m.modules m.module_dict")
without("takes a table of losses (spec/perceptual_spec.lua)", "nn.ComboLoss")
without("takes a function, or a structure of placeholders", "nn.Lambda nn.Functional nets.sequential")
without("declares under the name of its factory", "nets.multi_head_linear_attention")
without("is a class of nn, or a table of functions", "m.embed m.layer_norm m.null m.lstm m.norm m.fm2v m.ae m.f")
without("wraps one module (spec/model_argument_spec.lua)", "m.Model m.Module")
without("makes one layer, which declares", "m.pos_emb m.resample m.rearrange")
without("takes sizes, or nothing", "m.param m.param_init m.global_avg")
without("takes what Schedule or Optimizer take", "optim.ConstantLR optim.Optimizer")
without("takes a model alone", "optim.SWA")
without("is what others are derived from", "nn.Module")

it("every class of layers, factory, net, optimizer and schedule declares what it takes, or there is a reason why not", function()
  local names = {}
  for _, name in ipairs(registry.names()) do
    -- Other specs define classes of their own; parts of modules are no constructors of programs.
    local from = debug.getinfo(registry.find(name).__init, "S").source
    if from:find("lua/aijit/", 1, true) and rawget(nn, name) then names[#names + 1] = "nn." .. name end
  end
  for prefix, list in pairs{m = m, nets = fn.nets} do for name in pairs(list) do names[#names + 1] = prefix .. "." .. name end end
  for name, value in pairs(optim) do if ai.class.is_class(value) then names[#names + 1] = "optim." .. name end end
  for _, name in ipairs(names) do assert(argument.declared[name] or bare[name], name) end
end)
