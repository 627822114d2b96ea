-- Programs run as a user runs them, through the shell.

local M = {}

--- A word for the shell.
---@param text string
---@return string
function M.quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function slurp(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

--- Runs a shell command to its end, at most `limit` seconds.
---@param command string
---@param opts {input: string?, limit: number?}?
---@return {status: integer, out: string, err: string}
function M.run(command, opts)
  opts = opts or {}
  local base = os.tmpname()
  local input = "/dev/null"
  if opts.input then
    input = base .. ".in"
    local file = assert(io.open(input, "w"))
    file:write(opts.input)
    file:close()
  end
  -- timeout sends the children SIGKILL as well, and leaves 137.
  local line = ("timeout -k 1 -s KILL %g sh -c %s <%s >%s.out 2>%s.err; echo $? >%s"):format(
    opts.limit or 60, M.quote(command), input, base, base, base)
  os.execute(line)
  local result = {status = tonumber(slurp(base)), out = slurp(base .. ".out"), err = slurp(base .. ".err")}
  for _, suffix in ipairs{"", ".in", ".out", ".err"} do os.remove(base .. suffix) end
  return result
end

--- Whether a program is installed.
---@param name string
---@return boolean
function M.has(name)
  return os.execute("command -v " .. name .. " >/dev/null 2>&1") == 0
end

--- The aijit executable under test: the one that runs the specs, else that of the release build. nil when there is none.
---@return string?
function M.aijit()
  local paths = require "aijit.tree"
  return paths.exe
end

--- A new empty folder.
---@return string
function M.folder()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkdir " .. M.quote(path)) == 0)
  return path
end

return M
