--- What holds for all of a user's programs: ~/.aijit.yaml, or the file that $AIJITRC names ("" for none), and, over it, aijit.yaml
-- in the working folder. The first program that is launched writes it, with everything commented out.
--
--   directories: {run: /data/runs, data: /data/sets, models: /data/models}
--   defaults: {num_workers: 4, optim: {lr: 3e-4}}      # of fields that a program's config has and does not set itself

local user = {}

local first = [[
# What holds for all aijit programs of this user. Remove a # to set a value. A file aijit.yaml in the folder where a program is
# started counts more than this one; variables and the command line count more than both.

directories:
  # run: /data/runs         # numbered runs; or the variable RUN_DIR; else ./runs
  # data: /data/sets        # data sets; or DATA_DIR; else ~/.local/share/aijit
  # models: /data/models    # pretrained models; or MODEL_DIR; else the folder of data sets

# Defaults of fields, for every program whose config has them.
defaults:
  # num_workers: 2
  # device: cpu
]]

local known = {directories = {run = true, data = true, models = true}}

--- The user's file; nil when there is none: no home, or $AIJITRC is empty.
---@return string?
function user.path()
  local given = os.getenv "AIJITRC"
  if given then return given ~= "" and given or nil end
  local home = os.getenv "HOME"
  return home and home ~= "" and home .. "/.aijit.yaml" or nil
end

local function checked(values, path)
  local nearest = require "aijit.nearest"
  local yaml = require "aijit.yaml"
  local function refuse(what) error(("%s: %s"):format(path, what), 0) end
  local result = {directories = {}, defaults = {}}
  for key, inner in pairs(values) do
    if not result[key] then refuse(("there is no '%s' here; %s"):format(tostring(key), nearest.hint(tostring(key), {"directories", "defaults"}))) end
    if inner ~= yaml.null then
      if type(inner) ~= "table" then refuse(("'%s' must be a table, not %s"):format(key, tostring(inner))) end
      result[key] = inner
    end
  end
  for name, value in pairs(result.directories) do
    if not known.directories[name] then
      refuse(("directories has no '%s'; %s"):format(tostring(name), nearest.hint(tostring(name), {"run", "data", "models"})))
    end
    if value ~= yaml.null and type(value) ~= "string" then refuse(("directories.%s must be a path, not %s"):format(name, tostring(value))) end
  end
  return result
end

local function read(path)
  local handle = io.open(path, "rb")
  if not handle then return nil end
  local text = handle:read "*a"
  handle:close()
  if not text then return nil end          -- a folder
  local values = require("aijit.config.file").parse(text, "yaml", path)
  return checked(values, path)
end

--- Each of the files that is there, the one that counts most last.
---@return {path: string, directories: table, defaults: table}[]
function user.files()
  local list, mine = {}, user.path()
  if not mine then return list end
  for _, path in ipairs {mine, "aijit.yaml"} do
    local values = read(path)
    if values then
      values.path = path
      list[#list + 1] = values
    end
  end
  return list
end

--- Writes the user's file if there is none. A home that cannot be written to is left alone.
---@return string? path when it was written
function user.create()
  local path = user.path()
  if not path then return nil end
  local there = io.open(path, "rb")
  if there then
    there:close()
    return nil
  end
  local handle = io.open(path, "w")
  if not handle then return nil end
  local ok = handle:write(first)
  handle:close()
  return ok and path or nil
end

--- What a program does when it is launched: `create`, and a line on standard error when it wrote the file.
function user.welcome()
  local path = user.create()
  if path then io.stderr:write(("aijit: wrote %s, which holds your directories and defaults\n"):format(path)) end
end

local function expanded(path)
  local home = os.getenv "HOME"
  if home and path:sub(1, 1) == "~" and (path == "~" or path:sub(2, 2) == "/") then path = home .. path:sub(2) end
  return (path:gsub("(.)/+$", "%1"))
end

--- A folder: by its variable, else by the user's files.
---@param name "run"|"data"|"models"
---@param variable string
---@return string? path without a slash at its end
function user.directory(name, variable)
  local given = os.getenv(variable)
  if given and given ~= "" then return expanded(given) end
  local files = user.files()
  for i = #files, 1, -1 do
    local path = files[i].directories[name]
    if type(path) == "string" and path ~= "" then return expanded(path) end
  end
end

--- Puts the users' defaults into the fields of a config that have still their own; names that it lacks are of other programs.
---@param config aijit.ConfigSection changed
function user.merge(config)
  for _, values in ipairs(user.files()) do
    local origins = {}
    config:each(function(path, _, _, origin) origins[path] = origin end)
    local function visit(part, prefix)
      for key, value in pairs(part) do
        local path = prefix .. tostring(key)
        local origin = origins[path]
        if origin and (origin == "default" or origin:find "^user file") then
          local ok, problem = pcall(config.set, config, path, value, "user file " .. values.path)
          if not ok then error(("%s: %s"):format(values.path, (tostring(problem):gsub("^[^\n:]+:%d+: ", ""))), 0) end
        elseif type(value) == "table" and not origin and getmetatable(value) == nil then
          visit(value, path .. ".")
        end
      end
    end
    visit(values.defaults, "")
  end
end

return user
