--- Where in a model the program is: the modules whose forward is running, outermost first.
--
-- Module's call pushes and pops here without pcall, so after an error the stack is not unwound. That does no harm: a call
-- further out puts the depth right when it returns, and `describe` starts anew wherever one entry is not part of the one
-- before it. Entries are weak: the stack keeps no model alive.

local path = {
  depth = 0,
  stack = setmetatable({}, {__mode = "v"}),
}

--- Forgets what an error left behind; for whoever catches errors at the top: the REPL, the runner of a program.
function path.reset()
  path.depth = 0
end

--- The Lua expression that leads from `module` to `wanted`, or nil when it is no part of it.
---@param module table
---@param wanted table
---@return string? # such as ".encoder[3].fc1"
local function way(module, wanted, seen)
  if module == wanted then return "" end
  if seen[module] then return nil end
  seen[module] = true
  for _, child in ipairs(module:slots("module")) do
    local rest = way(child.value, wanted, seen)
    if rest then return child.index .. rest end
  end
end

--- The module that is running, as an error names it: `Net.encoder[3].fc1 (Linear 784 -> 10)`. The path is a Lua
--- expression, and so counts from 1. nil when no module is running. The stack is empty afterwards.
---@return string?
function path.describe()
  local depth, stack = path.depth, path.stack
  path.depth = 0
  local innermost = stack[depth]
  if depth == 0 or not innermost then return nil end
  local text = ""
  for i = depth - 1, 0, -1 do
    local outer, inner = stack[i], stack[i + 1]
    local step = outer and way(outer, inner, {})
    if not step then
      if inner == innermost then return inner:summary() end
      return ("%s%s (%s)"):format(getmetatable(inner).__name, text, innermost:summary())
    end
    text = step .. text
  end
end

return path
