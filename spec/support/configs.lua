--- What the specs of configs share: a config with a field of every kind, and a look at errors.

local assert = require "luassert"
local config = require "aijit.config"

local field = config.field

local M = {}

function M.message(f, ...)
  local ok, problem = pcall(f, ...)
  assert.is_false(ok)
  return tostring(problem)
end

function M.has(needle, haystack)
  assert(haystack:find(needle, 1, true), ("'%s' is not in: %s"):format(needle, haystack))
end

M.Mine = config.BareConfig.extend("MineConfig", {
  rate = field(0.1, {help = "How fast", min = 0, max = 1}),
  steps = field(10, {type = "integer"}),
  name = field("x"),
  kind = field("a", {choices = {"a", "b"}}),
  betas = field({0.9, 0.99}),
  verbose = false,
  limit = field(nil, {type = "number"}),
  inner = {size = 3, deep = {on = true}},
})

return M
