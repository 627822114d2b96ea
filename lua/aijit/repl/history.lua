-- The lines of earlier sessions, in a file of the user's.

local M = {}

local KEPT = 2000

--- Where the lines are kept: $AIJIT_HISTORY, or aijit/history in the XDG state folder. nil means nowhere: AIJIT_HISTORY is
--- set and empty, or there is no home.
---@param getenv (fun(name: string): string?)?
---@return string?
function M.path(getenv)
  getenv = getenv or os.getenv
  local own = getenv("AIJIT_HISTORY")
  if own then return own ~= "" and own or nil end
  local state = getenv("XDG_STATE_HOME")
  if state and state ~= "" then return state .. "/aijit/history" end
  local home = getenv("HOME")
  return home and home ~= "" and home .. "/.local/state/aijit/history" or nil
end

--- Each line once, where it was used last; at most the newest `limit`.
---@param lines string[]
---@param limit integer?
---@return string[]
function M.unique(lines, limit)
  local seen, newest = {}, {}
  for i = #lines, 1, -1 do
    local line = lines[i]
    if line:find("%S") and not seen[line] and #newest < (limit or KEPT) then
      seen[line] = true
      newest[#newest + 1] = line
    end
  end
  local list = {}
  for i = #newest, 1, -1 do list[#list + 1] = newest[i] end
  return list
end

--- Reads the file, and writes it anew when it has grown long.
---@param path string
---@return string[]
function M.load(path)
  local file = io.open(path)
  if not file then return {} end
  local lines = {}
  for line in file:lines() do lines[#lines + 1] = line end
  file:close()
  local list = M.unique(lines)
  if #lines > 2 * KEPT then
    local temporary = path .. ".new"
    local out = io.open(temporary, "w")
    if out then
      local written = out:write(table.concat(list, "\n"), "\n")
      if out:close() and written then os.rename(temporary, path) else os.remove(temporary) end
    end
  end
  return list
end

--- Adds a line to the file at once, so that sessions side by side and those that are killed lose nothing. A history that
--- cannot be written is no reason to disturb a session.
---@param path string
---@param line string
function M.append(path, line)
  local file = io.open(path, "a")
  if not file then return end
  file:write(line, "\n")
  file:close()
end

return M
