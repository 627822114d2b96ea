--- Where in a model the program is: the modules whose forward is running, outermost first.
--
-- Module's call pushes and pops here without pcall, so after an error the stack is not unwound. That does no harm: a call
-- further out puts the depth right when it returns, and `describe` starts anew wherever one entry is not part of the one
-- before it. Entries are weak: the stack keeps no model alive.

--
-- Of the last calls the first input is kept, weakly too: an error shows the shapes on the way to it.

local lib = require "aijit.bindings.lib"
local symbol = require "aijit.bindings.symbol"

local function weak() return setmetatable({}, {__mode = "v"}) end

local path = {
  depth = 0,
  stack = weak(),
  --- The last CALLS calls, in a ring of which `call` is the latest: the module, its first input, how deep it ran.
  CALLS = 64, call = 0, called = weak(), given = weak(), depth_of = {},
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

--- The shape of a first input, or of those in a list; nil for what has none or is gone.
local function shape_of(value)
  if lib.is_tensor(value) then
    return value:is_live() and "(" .. table.concat(value.shape, ", ") .. ")" or nil
  end
  local state = symbol.state(value)
  if state then return state.shape and "(" .. table.concat(state.shape, ", ") .. ")" or nil end
  if type(value) ~= "table" or getmetatable(value) ~= nil or #value == 0 or #value > 8 then return nil end
  local list = {}
  for i, inner in ipairs(value) do
    list[i] = lib.is_tensor(inner) and shape_of(inner)
    if not list[i] then return nil end
  end
  return "{" .. table.concat(list, ", ") .. "}"
end

local MOST = 8                                           -- calls shown beside those that lead to the error

--- The calls that lead to the error, outermost first, with those that the last two of them had made before: {module, input,
--- depth}.
local function trail(depth, outermost)
  local list, at, wanted, beside = {}, path.call, depth, 0
  for _ = 1, path.CALLS do
    local module, deep = path.called[at], path.depth_of[at]
    if not module or not deep or wanted < outermost then break end
    local is_running = deep == wanted and path.stack[deep] == module
    if is_running then wanted = wanted - 1 end
    local is_beside = not is_running and deep == wanted + 1 and wanted >= depth - 1
    if is_beside then beside = beside + 1 end
    if is_running or is_beside and beside <= MOST then table.insert(list, 1, {module, path.given[at], deep}) end
    at = at > 1 and at - 1 or path.CALLS
  end
  return list
end

--- Lines that tell the inputs' shapes, or nothing when there is one line only.
local function shapes_text(depth, outermost)
  local lines, ways, width, shown = {}, {}, 0, 0
  for _, row in ipairs(trail(depth, outermost)) do
    local module, deep = row[1], row[3]
    local from
    if deep == outermost then from = getmetatable(module).__name
    else
      local parent = ways[deep - 1]
      local step = parent and way(parent[1], module, {})
      from = step and (parent[2] .. step)
    end
    if deep <= depth then ways[deep] = {module, deep == outermost and "" or from or "?"} end
    local shape = shape_of(row[2])
    if from and shape then
      shown = shown + 1
      lines[shown] = {from, shape}
      width = math.max(width, #from)
    end
  end
  if shown < 2 then return "" end
  local text = {"\n  inputs on the way there:"}
  for i, line in ipairs(lines) do text[i + 1] = ("\n    %s%s  %s"):format(line[1], (" "):rep(width - #line[1]), line[2]) end
  return table.concat(text)
end

--- A module, and what it is at, when it says so.
local function what(module) return module.at_work and module:at_work() or module:summary() end

--- The module that is running, as an error names it: `Net.encoder[3].fc1 (Linear 784 -> 10)`, and below it the shapes of the
--- inputs on the way there. The path is a Lua expression, and so counts from 1. nil when no module is running. The stack is
--- empty afterwards.
---@return string?
function path.describe()
  local depth, stack = path.depth, path.stack
  path.depth = 0
  local innermost = stack[depth]
  if depth == 0 or not innermost then return nil end
  local text, outermost = "", 1
  for i = depth - 1, 0, -1 do
    local outer, inner = stack[i], stack[i + 1]
    local step = outer and way(outer, inner, {})
    if not step then
      outermost = i + 1
      text = inner == innermost and what(inner) or ("%s%s (%s)"):format(getmetatable(inner).__name, text, what(innermost))
      break
    end
    text = step .. text
  end
  local ok, shapes = pcall(shapes_text, depth, outermost)
  return ok and text .. shapes or text
end

return path
