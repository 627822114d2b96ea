--- Every function of PyTorch's namespaces (spec/vectors/torch_names.txt, made by spec/support/breadth.py) is here under its
-- name, or stands in spec/vectors/torch_absent.txt with the reason why it is not.

local ai = require "aijit"

local function lines(path)
  local list = {}
  for line in io.lines(path) do
    if line:match "%S" and not line:match "^#" then list[#list + 1] = line end
  end
  return list
end

local spaces, order = {}, {}
do
  local names
  for _, line in ipairs(lines "spec/vectors/torch_names.txt") do
    local space = line:match "^%[(.-)%]$"
    if space then names, order[#order + 1] = {}, space spaces[space] = names
    else for name in line:gmatch "%S+" do names[#names + 1] = name end end
  end
end

local absent = {}                                       -- name, or space.name = reason
for _, line in ipairs(lines "spec/vectors/torch_absent.txt") do
  local reason, names = line:match "^(.-): (.*)$"
  assert(reason, line)
  for name in names:gmatch "%S+" do
    assert(not absent[name], name .. " stands in torch_absent.txt twice")
    absent[name] = reason
  end
end

local function field(t, name)
  local ok, v = pcall(function() return t[name] end)
  return ok and v ~= nil
end

local tensor = ai.ones(2, 2)
local has = {
  torch = function(name) return field(ai, name) or field(ai.f, name) or field(tensor, name) end,
  Tensor = function(name) return field(tensor, name) end,
  ["nn.functional"] = function(name) return field(ai.f, name) end,
  linalg = function(name) return field(ai.linalg, name) end,
  fft = function(name) return field(ai.fft, name) end,
  special = function(name) return field(ai.special, name) end,
}

local used, present = {}, 0
for _, space in ipairs(order) do
  it("the names of torch's " .. space .. " are here, or torch_absent.txt says why not", function()
    local missing = {}
    for _, name in ipairs(spaces[space]) do
      local listed = absent[name] and name or absent[space .. "." .. name] and space .. "." .. name
      if has[space](name) then present = present + 1
      elseif listed then used[listed] = true
      else missing[#missing + 1] = name end
    end
    assert.are.equal("", table.concat(missing, " "))
  end)
end

it("torch_absent.txt names only what is absent", function()
  local stale = {}
  for name in pairs(absent) do if not used[name] then stale[#stale + 1] = name end end
  table.sort(stale)
  assert.are.equal("", table.concat(stale, " "))
end)

it("at least 1080 names of PyTorch's are here", function()
  assert.is_true(present >= 1080, present .. " names")
end)

it("there is no space whose names were not read", function()
  assert.are.same({"torch", "Tensor", "nn.functional", "linalg", "fft", "special"}, order)
  for _, space in ipairs(order) do assert.is_true(#spaces[space] > 20, space) end
end)
