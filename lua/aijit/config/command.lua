--- From a command line to a config: files, environment, `a.b=1`, --help, --print-config, and sweeps.

local file = require "aijit.config.file"
local grammar = require "aijit.config.grammar"
local nearest = require "aijit.nearest"
local text = require "aijit.config.text"
local user = require "aijit.config.user"

local command = {}

---@class aijit.CommandLine
---@field files string[] config files, in order
---@field overrides aijit.Override[] in order
---@field action "help"|"print-config"|nil
---@field multirun boolean

local actions = {["--help"] = "help", ["-h"] = "help", ["--print-config"] = "print-config"}

local options = {
  "--help", "--print-config", "--config", "-m", "--multirun", "--jobs", "--sweep", "--study", "--trials", "--evaluate", "--checkpoint",
}

local function unknown(word)
  if word:sub(1, 1) == "-" then error(("there is no option %s; %s"):format(word, nearest.hint(word, options)), 0) end
  local hint = word:match "^[%a_][%w_%.]*$" and (" (a field wants a value: %s=...)"):format(word) or ""
  error(("argument '%s' is neither field=value, nor a config file, nor an option%s"):format(word, hint), 0)
end

--- Sorts the words of a command line. Raises, without a place in the code, for one that is none of them.
---@param words string[]
---@return aijit.CommandLine
function command.parse(words)
  local line = {files = {}, overrides = {}, multirun = false}
  local i = 1
  while i <= #words do
    local word = words[i]
    local override = grammar.override(word)
    if override then
      table.insert(line.overrides, override)
    elseif word == "--config" then
      i = i + 1
      if not words[i] then error("--config wants the name of a file after it", 0) end
      table.insert(line.files, words[i])
    elseif file.is_name(word) then
      table.insert(line.files, word)
    elseif actions[word] then
      line.action = line.action or actions[word]
    elseif word == "-m" or word == "--multirun" then
      line.multirun = true
    else
      unknown(word)
    end
    i = i + 1
  end
  return line
end

local function variable(path) return "AIJIT__" .. path:upper():gsub("[%.%-]", { ["."] = "__", ["-"] = "_" }) end

--- Sets every field that has a variable: AIJIT__OPTIM__LR for optim.lr. A variable that no field has is left to others.
---@param config aijit.ConfigSection
---@param getenv? fun(name: string): string?
function command.merge_environment(config, getenv)
  getenv = getenv or os.getenv
  local found = {}
  config:each(function(path)
    local content = getenv(variable(path))
    if content then table.insert(found, {path, content}) end
  end)
  for _, pair in ipairs(found) do
    local name = variable(pair[1])
    local ok, problem = pcall(function()
      config:apply({action = "set", path = pair[1], text = pair[2], value = grammar.value(pair[2])}, "environment " .. name)
    end)
    if not ok then error(("%s: %s"):format(name, problem), 0) end
  end
end

--- Merges the user's defaults, files, the environment, then the overrides into a config. Raises without a place in the code.
---@param config aijit.ConfigSection changed
---@param words string[] the command line
---@param o? {getenv?: function}
---@return string? action "help" or "print-config" when that was asked for
function command.merge(config, words, o)
  local line = command.parse(words)
  -- What the command line adds is there for the files as well, which may be of a run that it was added to.
  local added = {}
  for _, override in ipairs(line.overrides) do
    if override.action == "add" or override.action == "force" then
      config:apply(override, "command line")
      added[override] = {action = "set", path = override.path, text = override.text, value = override.value}
    end
  end
  user.merge(config)
  for _, path in ipairs(line.files) do
    local ok, problem = pcall(config.merge, config, file.read(path), "file " .. path)
    if not ok then
      problem = tostring(problem):gsub("^[^\n:]+%.lua:%d+: ", "")
      error(problem:find("^config file") and problem or ("config file '%s': %s"):format(path, problem), 0)
    end
  end
  command.merge_environment(config, o and o.getenv)
  for _, override in ipairs(line.overrides) do config:apply(added[override] or override, "command line") end
  return line.action
end

--- The command lines of a sweep: every combination of the choices in `a=1,2 b=x,y c=range(0,3) d=choice(1,x)`. One line, the
-- same, without -m. As in Hydra, the end of a range is not in it, and range(N) begins at 0.
---@param words string[]
---@return string[][]
function command.sweep(words)
  local multirun, lines = false, {{}}
  for _, word in ipairs(words) do multirun = multirun or word == "-m" or word == "--multirun" end
  if not multirun then return {words} end
  for _, word in ipairs(words) do
    local name, choices = word:match("^(%+*[%a_][%w_%-%.]*=)(.*)$")
    local grown = {}
    if word ~= "-m" and word ~= "--multirun" then
      for _, line in ipairs(lines) do
        for _, choice in ipairs(name and grammar.sweep(choices) or {""}) do
          local longer = {unpack(line)}
          longer[#longer + 1] = name and name .. choice or word
          grown[#grown + 1] = longer
        end
      end
      lines = grown
    end
  end
  return lines
end

--- The text of an action, and whether there was one.
---@param config aijit.ConfigSection
---@param action string?
---@return string?
function command.answer(config, action)
  local arguments = rawget(_G, "arg")
  local program = type(arguments) == "table" and arguments[0] or "program.lua"
  if action == "help" then return text.help(config, "aijit " .. program) end
  if action == "print-config" then return text.annotated(config) end
end

return command
