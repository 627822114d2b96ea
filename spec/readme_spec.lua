--- What the README says is so: its programs run, and its numbers are those of the tree.

local file = io.open("README.md")
if not file then
  pending "the README is not here"
  return
end
local readme = file:read "*a"
file:close()

local programs = {}
for code in readme:gmatch "```lua\n(.-)```" do programs[#programs + 1] = code end

it("the first program learns exclusive or", function()
  local lines = {}
  local env = setmetatable({print = function(v) lines[#lines + 1] = tostring(v) end}, {__index = _G})
  require("aijit").manual_seed(1)
  setfenv(assert(loadstring(programs[1], "=README")), env)()
  local flat = table.concat(lines):gsub("-0", " 0"):gsub("[^%d.]+", " ")
  assert.is_truthy(flat:find("0. 1. 1. 0.", 1, true), lines[1])
end)

it("the second is the example that it shows", function()
  local example = assert(io.open "examples/mnist/train.lua"):read "*a"
  local code = example:match "(local ai = require.*)$"
  assert.are.equal(code, programs[2])
end)

it("promises no more rows than the op table has", function()
  local rows = #require("aijit.bindings.op").rows
  assert.is_true(rows > tonumber(readme:match "| Ops | more than (%d+) rows"))
end)

it("names files and folders that are there", function()
  for path in readme:gmatch "`([%w_./]+)`" do
    if path:match "^[%w_]+/" and not path:match "%.%.%." then
      local there = io.open(path) or io.open(path .. "/.") or io.popen("ls -d " .. path .. " 2>/dev/null"):read "*l"
      assert.is_truthy(there, path)
    end
  end
end)

it("shows a row that is in the op table", function()
  local row = readme:match "```c\n(UNARY.-)\n```"
  local table_of_ops = assert(io.open "core/ops.def"):read "*a"
  local name = row:match "UNARY%((%w+)"
  assert.is_truthy(table_of_ops:find("UNARY(" .. name, 1, true))
end)
