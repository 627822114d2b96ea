--- What is kept beside a run's results so that it can be told, and done, again: config, code, versions, command.

local jsonl = require "aijit.log.jsonl"
local system = require "aijit.bindings.system"

local record = {}

-- What is copied of the folder the program was started in.
local kinds = {lua = true, c = true, h = true, cu = true, def = true, sh = true, json = true, yaml = true, yml = true, md = true}
local most_files, most_bytes = 2000, 16 * 2 ^ 20

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- The output of a command, or nil when it failed or was empty.
local function output(command)
  local pipe = io.popen(command .. " 2>/dev/null", "r")
  if not pipe then return nil end
  local text = pipe:read("*a")
  pipe:close()
  return text ~= "" and text or nil
end

local write = require("aijit.io.file").write

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

--- The state of the git repository that a folder is in.
---@param folder string
---@return {commit: string, branch: string, dirty: boolean, status: string?, diff: string?}? git nil where there is none
function record.git(folder)
  -- Without optional locks, so that a run which is killed here leaves no index.lock in its user's repository.
  local git = "git --no-optional-locks -C " .. quote(folder) .. " "
  local commit = output(git .. "rev-parse HEAD")
  if not commit then return nil end
  local status = output(git .. "status --porcelain")
  return {
    commit = commit:match("%S+"), branch = (output(git .. "rev-parse --abbrev-ref HEAD") or "?"):match("%S+"),
    dirty = status ~= nil, status = status, diff = output(git .. "diff HEAD"),
  }
end

--- The folders among these paths that hold what runs left, each with a slash at its end: a run's own, and a State logger's src.
---@param paths string[]
---@return table<string, true>
local function run_folders(paths)
  local there, folders = {}, {}
  for _, path in ipairs(paths) do there[path] = true end
  for _, path in ipairs(paths) do
    local folder = path:match "^(.+/)run%.json$"
    if folder and there[folder .. "config.yaml"] then folders[folder] = true end
    folder = path:match "^(.+/)state%.json$" or path == "state.json" and ""
    if folder then folders[folder .. "src/"] = there[folder .. "manifest.json"] == nil or nil end
  end
  return folders
end

local function within(path, folders)
  for slash in path:gmatch "()/" do if folders[path:sub(1, slash)] then return true end end
  return false
end

--- The source files under a folder: those git knows or would, or, without git, all; never what is hidden or what runs left.
---@param folder string
---@return string[] paths relative to it
function record.sources(folder)
  local listing = output(("cd %s && git ls-files -co --exclude-standard"):format(quote(folder)))
    or output(("cd %s && find . -name '.?*' -prune -o -type f -size -1024k -print | head -n 20000"):format(quote(folder)))
    or ""
  local paths = {}
  for path in listing:gmatch("[^\n]+") do
    path = path:gsub("^%./", "")
    if kinds[path:match("%.(%w+)$") or ""] then paths[#paths + 1] = path end
  end
  local folders, sources = run_folders(paths), {}
  for _, path in ipairs(paths) do if not within(path, folders) then sources[#sources + 1] = path end end
  return sources
end

--- Copies the source files under `from` to `to`; stops at 2,000 files or 16 MB.
---@param from string
---@param to string
---@return integer files copied
---@return boolean all false when there were more
function record.copy_sources(from, to)
  local bytes, count = 0, 0
  for _, path in ipairs(record.sources(from)) do
    local text = read(from .. "/" .. path)
    if text then
      if count == most_files or bytes + #text > most_bytes then return count, false end
      local folder = path:match("^(.*)/[^/]*$")
      system.make_directories(folder and to .. "/" .. folder or to)
      write(to .. "/" .. path, text)
      bytes, count = bytes + #text, count + 1
    end
  end
  return count, true
end

--- Writes config.yaml, run.json and, where the tree has changes, git.diff.
---@param dir string folder of the run, which exists
---@param o {config?: any, name?: string, folder?: string}
function record.write(dir, o)
  if o.config ~= nil then
    local text = require "aijit.config.text"
    local values = o.config
    if type(values) == "table" and type(values.to_table) == "function" then values = values:to_table() end
    write(dir .. "/config.yaml", text.yaml(values))
  end
  local arguments, words, added = rawget(_G, "arg") or {}, {}, {}
  for i = 0, #arguments do
    words[#words + 1] = tostring(arguments[i])
    if words[#words]:match "^%+" then added[#added + 1] = words[#words] end
  end
  local git = record.git(o.folder or ".")
  local fields = {
    {"name", o.name or ""}, {"started", os.date("!%Y-%m-%dT%H:%M:%SZ")}, {"command", table.concat(words, " ")},
    {"folder", system.working_directory()}, {"host", system.hostname()}, {"pid", system.pid()}, {"lua", rawget(_G, "jit") and jit.version or _VERSION},
  }
  if type(arguments[0]) == "string" and arguments[0]:match("%.lua$") then table.insert(fields, 4, {"program", arguments[0]}) end
  if #added > 0 then fields[#fields + 1] = {"added", table.concat(added, "\n")} end      -- fields that the config's class has not
  local ok, version = pcall(function() return require("aijit")._VERSION end)
  if ok and version then fields[#fields + 1] = {"aijit", tostring(version)} end
  if git then
    for _, name in ipairs {"commit", "branch", "dirty"} do fields[#fields + 1] = {"git_" .. name, git[name]} end
    if git.diff then write(dir .. "/git.diff", git.diff) end
  end
  write(dir .. "/run.json", jsonl.line(fields) .. "\n")
end

return record
