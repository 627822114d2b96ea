--- `aijit rerun DIR [words]`: does a run again, from the code, config and seed that its folder keeps, in a new folder beside it.

local M = {}

M.summary = "run again what a run's folder keeps: aijit rerun DIR [field=value ...]"

local function fail(text)
  io.stderr:write("aijit rerun: ", text, "\n")
  return 2
end

local function read(path)
  local handle = io.open(path, "rb")
  local text = handle and handle:read("*a")
  if handle then handle:close() end
  return text
end

-- The folder of the numbered runs that DIR is one of: runs/mnist/run_3 is of runs.
local function run_dir_of(dir) return dir:match("^(.*)/[^/]+/run_%d+$") end

--- Runs it.
---@param ... string the run's folder, then words of its command line
---@return integer? status
function M.run(...)
  local words = {...}
  local dir = table.remove(words, 1)
  if not dir or dir:match("^%-") then return fail("which run? aijit rerun DIR [field=value ...]") end
  local system = require "aijit.bindings.system"
  local ai = require "aijit"
  dir = dir:gsub("/+$", "")
  if dir:sub(1, 1) ~= "/" then dir = system.working_directory() .. "/" .. dir end
  local text = read(dir .. "/run.json")
  if not text then return fail(("'%s' is no run's folder: it has no run.json"):format(dir)) end
  local ok, record = pcall(ai.json.decode, text)
  if not ok then return fail(("'%s/run.json' cannot be read: %s"):format(dir, record)) end
  if type(record.program) ~= "string" then return fail("that run was not made by a Lua file, so there is nothing to run again") end
  local program = dir .. "/code/" .. record.program:match("[^/]+$")
  if not read(program) then return fail(("the code of that run is missing: '%s'"):format(program)) end

  for _, pair in ipairs {{"aijit", ai._VERSION}, {"lua", jit.version}, {"host", system.hostname()}} do
    local was = record[pair[1]]
    if was and was ~= pair[2] then io.stderr:write(("note: %s was %s then, and is %s now\n"):format(pair[1], was, pair[2])) end
  end
  if type(record.folder) == "string" then
    if system.is_directory(record.folder) then
      system.change_directory(record.folder)
    else
      io.stderr:write(("note: the folder it was run in, '%s', is gone; relative names are looked for here\n"):format(record.folder))
    end
  end
  local line = {"--config", dir .. "/config.yaml", "exp_dir=null"}
  local runs = run_dir_of(dir)
  if runs then line[#line + 1] = "run_dir=" .. runs end
  for word in tostring(record.added or ""):gmatch "[^\n]+" do
    line[#line + 1] = word:gsub("^%+*", "++")
  end
  for _, word in ipairs(words) do line[#line + 1] = word end
  line[0] = program
  rawset(_G, "arg", line)
  package.path = ("%s/code/?.lua;%s/code/?/init.lua;%s"):format(dir, dir, package.path)
  local chunk, problem = loadfile(program)
  if not chunk then error(problem, 0) end
  chunk(unpack(line))
  return 0
end

return M
