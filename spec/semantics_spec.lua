--- Small programs of tensors, and what PyTorch made of them (spec/vectors/semantics/, by spec/support/semantics): promotion,
-- integers, NaN in order, empty tensors, shapes, writes into views, gradients at edges. What differs is a difference that
-- lua/aijit/differences.md states, named here with the programs that show it.

local ai = require "aijit"
local json = require "aijit.json"

local FOLDER = "spec/vectors/semantics/"
local TOLERANCE = {f64 = 1e-10, f32 = 2e-5, bf16 = 2e-2, f16 = 3e-3}
local SMALL = {bool = true, u8 = true, i8 = true}

local stated = {}
do
  local file = io.open "lua/aijit/differences.md"
  for title in file:read("*a"):gmatch "\n%- %*%*(.-)%*%*" do stated[(title:gsub("%s+", " "))] = false end
  file:close()
end

-- A difference's title, and whether a run shows it: by the program, the inputs' dtypes, what is wrong, and PyTorch's refusal.
local DIFFERENCES = {
  {"A bool counts as 0 or 1 beside another dtype.", function(lua, _, _, refusal) return lua:find "^ai%.f%.sub" and refusal and refusal:find "Subtraction" end},
  {"A number keeps its value beside integers.", function(lua, dtypes) return SMALL[dtypes[1]] and lua:find "^ai%.f%.%w+%(a, %-?%d+" end},
  {"Losses of two shapes are refused", function(lua, _, problem) return lua:find "l1_loss" and problem:find "different shapes" end},
}

local function sizes_text(sizes) return "{" .. table.concat(sizes, ", ") .. "}" end

local function load(group)
  local pools, metadata = ai.load(FOLDER .. group .. ".safetensors")
  local tensors = json.decode(metadata.tensors)
  local function make(i)
    local dtype, sizes, at = unpack(tensors[i + 1])
    local n = 1
    for _, s in ipairs(sizes) do n = n * s end
    local t = ai.empty(sizes, {dtype = dtype})
    return n == 0 and t or t:copy_(pools[dtype]:narrow(1, at + 1, n):view(sizes))
  end
  return json.decode(metadata.programs), make, tensors
end

local function flat(list, out)
  for i = 1, #list do
    if type(list[i]) == "table" and not ai.is_tensor(list[i]) then flat(list[i], out) else out[#out + 1] = list[i] end
  end
  return out
end

local function differs(have, want)
  if not ai.is_tensor(have) then return "is no tensor but " .. tostring(have) end
  if have.dtype ~= want.dtype then return ("has dtype %s, and should have %s"):format(have.dtype, want.dtype) end
  local sizes, wanted = sizes_text(have:size()), sizes_text(want:size())
  if sizes ~= wanted then return ("has sizes %s, and should have %s"):format(sizes, wanted) end
  if want:numel() == 0 then return nil end
  if not want:is_floating_point() then return not have:equal(want):item() and ("is %s, and should be %s"):format(tostring(have), tostring(want)) or nil end
  local p, q = have:detach():to "f64":contiguous():view(-1):totable(), want:to "f64":view(-1):totable()
  for i, b in ipairs(q) do
    local a = p[i]
    if not (a == b or (a ~= a and b ~= b) or math.abs(a - b) <= TOLERANCE[want.dtype] * (1 + math.abs(b))) then
      return ("has %.17g as element %d, and should have %.17g"):format(a, i, b)
    end
  end
end

-- nil, or what a run does that PyTorch does not.
local function problem_of(program, run, make)
  local inputs, wanted = {}, run[2]
  for i, at in ipairs(run[1]) do inputs[i] = make(at) end
  local results = {pcall(program, ai, inputs[1], inputs[2], inputs[3])}
  if not table.remove(results, 1) then
    return type(wanted) == "table" and "is refused: " .. tostring(results[1]) or nil
  elseif type(wanted) == "string" then
    return "is not refused, as in PyTorch: " .. wanted
  end
  local have = flat(results, {})
  for i, at in ipairs(wanted) do
    local wrong
    if at < 0 then wrong = have[i] ~= -1 - at and "is " .. tostring(have[i]) or nil
    else wrong = differs(have[i], make(at)) end
    if wrong then return ("result %d %s"):format(i, wrong) end
  end
end

local total, shown = 0, {}

describe("as PyTorch does it:", function()
  for _, group in ipairs {"promotion", "integers", "order", "empties", "shapes", "writes", "gradients"} do
    it(group, function()
      local programs, make, tensors = load(group)
      local failed, count = {}, 0
      for _, p in ipairs(programs) do
        local program = assert(loadstring("local ai, a, b, c = ... return " .. p.lua, p.lua))
        for _, run in ipairs(p.runs) do
          total = total + 1
          local problem = ai.scope(problem_of, program, run, make)
          local known = false
          if problem then
            local dtypes = {}
            for i, at in ipairs(run[1]) do dtypes[i] = tensors[at + 1][1] end
            for i, d in ipairs(DIFFERENCES) do
              if not known and d[2](p.lua, dtypes, problem, type(run[2]) == "string" and run[2] or nil) then known, shown[i] = true, true end
            end
            if not known then
              count = count + 1
              local about = {}
              for i, at in ipairs(run[1]) do about[i] = tensors[at + 1][1] .. sizes_text(tensors[at + 1][2]) end
              if count <= 40 then failed[#failed + 1] = ("  %s  of %s: %s"):format(p.lua, table.concat(about, ", "), problem) end
            end
          end
        end
      end
      if count > 0 then error(("%d runs differ:\n%s"):format(count, table.concat(failed, "\n")), 0) end
    end)
  end

  it("in at least 20000 runs", function() assert.is_true(total >= 20000, total .. " runs") end)

  it("but for differences that are stated, and that some run shows", function()
    for i, d in ipairs(DIFFERENCES) do
      assert.is_false(stated[d[1]], d[1] .. " is not stated")
      assert.is_true(shown[i], "no run shows: " .. d[1])
    end
  end)
end)
