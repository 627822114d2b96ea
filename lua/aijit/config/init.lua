--- Typed configs: `ai.Config.extend`, `ai.field`, `ai.required`, and the command line.
--
--   local Config = ai.Config.extend("MnistConfig", {learning_rate = ai.field(1e-3, {help = "..."})})
--   local config = Config{batch_size = 16}            -- every value checked
--   local config = Config.parse()                     -- the program's command line on top

local class = require "aijit.class"
local command = require "aijit.config.command"
local reference = require "aijit.config.reference"
local schema = require "aijit.config.schema"
local Section = require "aijit.config.section"

local config = {field = schema.field, required = schema.required, main = require "aijit.config.main"}

-- Names that a field may not have, because reading one gives the method.
local reserved = {}
for name in pairs(Section) do reserved[name] = true end
reserved.extend, reserved.parse, reserved.schema, reserved.load = true, true, true, true

local function derive(parent, name, fields)
  if type(name) ~= "string" or type(fields) ~= "table" then
    error(('extend takes a name and a table of fields: extend("MyConfig", {size = ai.field(3)}); got %s and %s')
      :format(type(name), type(fields)), 3)
  end
  local ok, result = pcall(schema.derive, name, parent.schema, fields, reserved)
  if not ok then error(result, 3) end
  local cls = class(name, parent)
  cls.schema = result

  --- A class with more fields, or other defaults.
  function cls.extend(new_name, new_fields) return derive(cls, new_name, new_fields) end

  --- A config from files, merged in their order: `Config.load("base.yaml", "large.json")`. Raises at the caller.
  function cls.load(...)
    local made = cls()
    for i = 1, select("#", ...) do
      local path = select(i, ...)
      local merged, problem = pcall(function() made:merge(require("aijit.config.file").read(path), "file " .. path) end)
      if not merged then error((tostring(problem):gsub("^[^\n:]+%.lua:%d+: ", path .. ": ")), 2) end
    end
    return made
  end

  --- A config from the command line. Answers --help and --print-config and ends the program; so does a wrong word,
  -- with a message and status 2. With `words` given, raises instead, and returns the answer as a second value.
  function cls.parse(words)
    local made = cls()
    local ok_words, action = pcall(command.merge, made, words or rawget(_G, "arg") or {})
    if not words then require("aijit.config.user").welcome() end
    if words then
      if not ok_words then error(action, 2) end
      return made, command.answer(made, action)
    end
    if not ok_words then
      io.stderr:write(tostring(action), "\n")
      os.exit(2)
    end
    if action then
      io.stdout:write(command.answer(made, action))
      os.exit(0)
    end
    return made
  end
  return cls
end

function Section:__init() error("a section is made by its config", 2) end

local Root = class("Config", Section)
Root.schema = {name = "Config", fields = {}}

function Root.__init(self, values)
  local cls = getmetatable(self)
  local built = Section.build(cls, cls.schema.fields, "")
  for key, value in pairs(built) do rawset(self, key, value) end
  if values ~= nil then
    if type(values) ~= "table" then
      error(("%s takes a table of values: %s{batch_size = 16}; got %s"):format(cls.__name, cls.__name, schema.show(values)), 3)
    end
    local ok, problem = pcall(self.merge, self, values)
    if not ok then error(problem, 3) end
  end
end

--- Makes `${name:a,b}` stand for `f("a", "b")` in every config, as `Config.add_resolver("double", function(x) return 2 * x end)`.
---@param name string letters, digits, '_' and '.'
---@param f fun(...: string): any
function Root.add_resolver(name, f)
  if type(name) ~= "string" or not name:match "^[%a_][%w_%.]*$" or type(f) ~= "function" then
    error(('add_resolver takes a name and a function: add_resolver("double", function(x) return 2 * x end); got %s and %s')
      :format(schema.show(name), type(f)), 2)
  end
  if name == "env" or name == "oc.env" then error(("add_resolver: '%s' is there already"):format(name), 2) end
  reference.resolvers[name] = f
end
reserved.add_resolver = true

--- A class without any fields, for programs that train nothing.
config.BareConfig = derive(Root, "BareConfig", {})

--- The class to extend: it has the fields of `aijit.config.fields`.
config.Config = derive(Root, "Config", require "aijit.config.fields")

return config
