-- aijit doctor: what is installed, what is missing, and the command that installs it.

local M = {summary = "tell what is installed, what is missing, and how to install it"}

---@class aijit.Finding
---@field name string
---@field value string      what was found, or what is wrong
---@field ok boolean
---@field required boolean  aijit does not work without it
---@field fix string?       the command that helps

-- What a function of aijit's returns; nil when it fails or is not there.
local function ask(ai, name, ...)
  local ok, value = pcall(function(...) return ai[name](...) end, ...)
  if ok then return value end
end

local function program(name)
  for folder in (os.getenv("PATH") or ""):gmatch("[^:]+") do
    local path = folder .. "/" .. name
    local file = io.open(path)
    if file then
      file:close()
      return path
    end
  end
end

local function add(list, finding)
  if finding.required == nil then finding.required = false end
  list[#list + 1] = finding
end

local function check_runtime(list, host)
  add(list, {name = "aijit", value = ("%s, %s"):format(host.version, host.exe), ok = true, required = true})
  -- The executable does not start under a LuaJIT without GC64.
  local compiler = jit.status() and "" or ", compiler off"
  add(list, {name = "LuaJIT", value = jit.version .. ", GC64" .. compiler, ok = true, required = true})
end

local function check_library(list, host, paths)
  local lib = os.getenv("AIJIT_LIB")
  local file = lib and io.open(lib)
  if file then file:close() else lib = paths.lib end
  if not lib then
    add(list, {name = "libaijit.so", value = "not found", ok = false, required = true,
      fix = paths.source and "rocks/bootstrap build" or "install aijit anew: rocks/bootstrap install"})
    return nil
  end
  local ok, ai = pcall(require, "aijit")
  if not ok then
    add(list, {name = "libaijit.so", value = ("%s does not load: %s"):format(lib, tostring(ai):match("^[^\n]*")), ok = false,
      required = true, fix = "rocks/bootstrap deps && rocks/bootstrap build"})
    return nil
  end
  add(list, {name = "libaijit.so", value = lib, ok = true, required = true})
  host.attach(lib)
  return ai
end

local function check_cpu(list, host, ai)
  local libraries = host.libraries()
  if libraries.level then add(list, {name = "CPU kernels", value = "level " .. libraries.level, ok = true}) end
  local threads = ask(ai, "get_num_threads")
  if threads then add(list, {name = "threads", value = tostring(threads), ok = true}) end
  add(list, {name = "oneDNN", value = libraries.onednn or "not linked", ok = libraries.onednn ~= nil, required = true,
    fix = "apt install libdnnl-dev && rocks/bootstrap build"})
  add(list, {name = "OpenBLAS", value = (libraries.openblas or "not linked"):gsub("^OpenBLAS ", ""):gsub("%s+$", ""),
    ok = libraries.openblas ~= nil, required = true, fix = "apt install libopenblas-dev && rocks/bootstrap build"})
end

local function check_cuda(list, ai)
  local there, why = ai.cuda.is_available()
  if not there then return add(list, {name = "CUDA", value = why .. ": everything runs on the CPU", ok = true}) end
  for n = 0, ai.cuda.device_count() - 1 do
    local ok, p = pcall(ai.cuda.properties, n)
    local value = ok and ("%s, %.1f of %.1f GiB free, capability %s, %d multiprocessors, CUDA %s, driver for CUDA %s"):format(
      p.name, p.free / 2 ^ 30, p.total / 2 ^ 30, p.capability, p.multiprocessors, p.runtime, p.driver) or tostring(p)
    add(list, {name = "cuda:" .. n, value = value, ok = ok})
  end
  for _, l in ipairs(ai.cuda.libraries()) do
    add(list, {name = l.name, value = l.absence or ("%s, %s"):format(l.version, l.path), ok = not l.absence, fix = l.install and "install " .. l.install})
  end
end

local function check_data(list, ai)
  local dir = ask(ai, "get_data_dir")
  if type(dir) == "string" then add(list, {name = "data", value = dir, ok = true}) end
end

local optional = {
  {name = "git", use = "experiments note the state of the code", program = "git", fix = "apt install git"},
  {name = "busted", use = "runs the specs", program = "busted", fix = "apt install lua-busted"},
  {name = "luacheck", use = "checks Lua code", program = "luacheck", fix = "apt install lua-check"},
  {name = "libyaml", use = "configs and specs in YAML", library = "libyaml-0.so.2", fix = "apt install libyaml-dev && rocks/bootstrap build"},
  {name = "libcurl", use = "downloads and MLflow", library = "libcurl.so.4", fix = "apt install libcurl4"},
  {name = "mpirun", use = "training on several machines", program = "mpirun", fix = "apt install openmpi-bin"},
}

local function check_optional(list)
  for _, tool in ipairs(optional) do
    local found = tool.library and package.loadlib(tool.library, "*") and tool.library or tool.program and program(tool.program)
    add(list, {name = tool.name, value = found or "absent (" .. tool.use .. ")", ok = found ~= nil, fix = tool.fix})
  end
end

--- Looks at everything.
---@return aijit.Finding[]
function M.findings()
  local host, paths = require "aijit.host", require "aijit.tree"
  local list = {}
  check_runtime(list, host)
  local ai = check_library(list, host, paths)
  if ai then
    check_cpu(list, host, ai)
    check_cuda(list, ai)
    check_data(list, ai)
  end
  check_optional(list)
  return list
end

--- The findings as lines of text.
---@param list aijit.Finding[]
---@return string
function M.format(list)
  local lines = {}
  for _, finding in ipairs(list) do
    local mark = finding.ok and "ok" or finding.required and "MISSING" or "-"
    lines[#lines + 1] = ("%-8s %-12s %s"):format(mark, finding.name, finding.value)
    if not finding.ok and finding.fix then lines[#lines + 1] = ("%-8s %-12s   %s"):format("", "", finding.fix) end
  end
  return table.concat(lines, "\n")
end

--- aijit doctor.
---@return integer status  0 when all that is required is there
function M.run(...)
  if select("#", ...) > 0 then
    io.stderr:write("usage: aijit doctor\n")
    return 1
  end
  local list = M.findings()
  print(M.format(list))
  for _, finding in ipairs(list) do
    if finding.required and not finding.ok then return 1 end
  end
  return 0
end

return M
