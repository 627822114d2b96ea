-- The stack of an error, for the reader of a program that uses aijit: without aijit's own frames, unless the error is in one.

local M = {}

local LIMIT = 30

local function is_own(source)
  if source:sub(1, 7) == "=aijit." then return true end          -- code that aijit made
  local paths = package.loaded["aijit.paths"]
  if not paths or source:sub(1, 1) ~= "@" then return false end
  local path = source:sub(2)
  local bindings, modules = paths.root .. "/bindings/", paths.lua .. "/aijit/"
  return path:sub(1, #modules) == modules or paths.source and path:sub(1, #bindings) == bindings
end

local function line(info)
  local where
  if info.what == "main" then
    where = "in main chunk"
  elseif info.name then
    where = ("in function '%s'"):format(info.name)
  elseif info.what == "C" then
    where = "in a C function"
  else
    where = ("in function <%s:%d>"):format(info.short_src, info.linedefined)
  end
  if info.currentline > 0 then return ("\t%s:%d: %s"):format(info.short_src, info.currentline, where) end
  return ("\t%s: %s"):format(info.short_src, where)
end

--- The frames from `level` outwards (as debug.getinfo counts, in the caller), one line each.
---@param level integer
---@param message string   an error inside aijit names one of its files; then its frames are shown
---@return string[]
function M.frames(level, message)
  local list = {}
  while true do
    local info = debug.getinfo(level + 1, "nSl")
    if not info then break end
    list[#list + 1] = info
    level = level + 1
  end
  -- Outermost: what runs the program.
  local last = #list
  for i = #list, 1, -1 do
    if list[i].what == "C" and list[i].name == "protect" then
      last = i - 1
      break
    end
  end
  while last > 0 and list[last].what == "C" do last = last - 1 end
  -- Innermost: the path from the program's call to where aijit found it wrong.
  local first, deepest = 1, 0
  for i = 1, last do
    local info = list[i]
    if info.what ~= "C" and not is_own(info.source) then break end
    if info.what ~= "C" then deepest = i end
  end
  local inside = deepest > 0 and list[deepest]
  for i = 1, deepest do
    local place = ("%s:%d:"):format(list[i].short_src, list[i].currentline)
    if message:sub(1, #place) == place then inside = nil end
  end
  if inside then first = deepest + 1 end
  local lines = {}
  for i = first, last do
    if i - first == LIMIT and last - i > LIMIT then lines[#lines + 1] = ("\t... %d more"):format(last - i - LIMIT + 1) end
    if i - first < LIMIT or last - i < LIMIT then lines[#lines + 1] = line(list[i]) end
  end
  return lines
end

return M
