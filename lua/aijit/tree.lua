-- Where the files of this aijit are. Required once, before any other module of aijit, by the aijit executable, by the spec
-- helper and by aijit itself; afterwards the answer is package.loaded["aijit.paths"].
--
-- Installed, every module lies where its name says. In the source tree bindings/ stands beside lua/, so there
-- aijit.bindings.NAME is found by one more package loader.
--
-- A new Lua state, such as a loader's thread, gets package.path, package.cpath and the table of paths from the state that
-- starts it, sets package.loaded["aijit.paths"], and requires this module: it then uses the same files.

---@class aijit.Paths
---@field root string       the source tree, or the install prefix
---@field lua string        the folder that holds aijit/tree.lua
---@field lib string?       libaijit.so; nil when it was not found
---@field exe string?       the aijit executable; nil when it was not found
---@field header string?    aijit.h
---@field examples string?  the folder of the examples
---@field source boolean    true in a source tree
---@field thread boolean?   true in the Lua state of a thread that another state started

local function exists(path)
  local file = path and io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function first(...)
  for i = 1, select("#", ...) do
    local path = select(i, ...)
    if exists(path) then return path end
  end
end

local here = debug.getinfo(1, "S").source:match("^@(.*)/aijit/tree%.lua$") or "."
if here:sub(1, 1) ~= "/" then
  -- Made absolute, so that it holds when the program changes its folder.
  local absolute = (os.getenv("PWD") or ".") .. "/" .. here:gsub("^%./", "")
  if exists(absolute .. "/aijit/tree.lua") then here = absolute end
end

local host
if package.preload["aijit.host"] then host = require "aijit.host" end

local function source_tree(root)
  -- Under plain luajit the release build is meant, or the build folder that AIJIT_BUILD names.
  local build = host and host.dir or os.getenv("AIJIT_BUILD") or root .. "/build/release"
  return {
    root = root,
    lua = here,
    lib = first(build .. "/libaijit.so"),
    exe = host and host.exe or first(build .. "/aijit"),
    header = first(root .. "/core/aijit.h"),
    examples = first(root .. "/examples"),
    source = true,
  }
end

local function installed()
  local root = here:match("^(.*)/share/lua/5%.1$") or here
  return {
    root = root,
    lua = here,
    lib = package.searchpath("aijit.libaijit", package.cpath) or first(root .. "/lib/lua/5.1/aijit/libaijit.so"),
    exe = host and host.exe or first(root .. "/bin/aijit"),
    header = first(here .. "/aijit/aijit.h", root .. "/include/aijit/aijit.h"),
    examples = first(here .. "/aijit/examples", root .. "/share/aijit/examples"),
    source = false,
  }
end

local function add_bindings_loader(root)
  local registry = debug.getregistry()
  if registry["aijit.tree"] then return end       -- a spec runner may load this module again
  registry["aijit.tree"] = true
  table.insert(package.loaders, 2, function(name)
    local part = name:match("^aijit%.bindings%.(.+)$")
    if not part then return nil end
    local path = root .. "/bindings/" .. part:gsub("%.", "/") .. ".lua"
    if not exists(path) then return "\n\tno file '" .. path .. "'" end
    return assert(loadfile(path))
  end)
end

---@type aijit.Paths
local paths = package.loaded["aijit.paths"]
if not paths then
  local root = here:match("^(.*)/lua$")
  paths = root and exists(root .. "/CMakeLists.txt") and source_tree(root) or installed()
  package.loaded["aijit.paths"] = paths
end
if paths.source then add_bindings_loader(paths.root) end
return paths
