-- Lines that are not Lua: `:name argument` and `?name`. Each command is a function of the session and its argument; what it
-- returns is printed.

local chunk = require "aijit.repl.chunk"
local report = require "aijit.repl.report"

local M = {}

---@class aijit.Command
---@field usage string
---@field summary string
---@field run fun(session: table, argument: string): string?

---@type table<string, aijit.Command>
M.commands = {}

M.commands.help = {
  usage = ":help",
  summary = "this list",
  run = function()
    local lines = {
      "An expression is shown; a `;` at its end keeps it quiet, and `_` is its first value.",
      "`local` at the top level lasts for the session. A line that is not whole is continued; Ctrl-C drops it.",
      "Tab completes, Ctrl-R searches what was typed before, Ctrl-C stops what runs, Ctrl-D leaves.",
      "",
      ("  %-14s %s"):format("?name", "help for an op, a function or a module"),
    }
    for _, name in ipairs(M.names()) do
      local command = M.commands[name]
      lines[#lines + 1] = ("  %-14s %s"):format(command.usage, command.summary)
    end
    return table.concat(lines, "\n")
  end,
}

M.commands.quit = {
  usage = ":quit",
  summary = "leave",
  run = function(session) session.done = true end,
}

M.commands.time = {
  usage = ":time CODE",
  summary = "run CODE and tell how long it took",
  run = function(session, argument)
    if not argument:find("%S") then return "usage: :time CODE" end
    local compiled = chunk.compile(argument)
    if not compiled.run then
      session:fail(compiled.error)
      return nil
    end
    local start = session.clock()
    session:evaluate(compiled)
    return ("[%s]"):format(report.duration(session.clock() - start))
  end,
}

local function bytes(n)
  if n < 1024 then return ("%d B"):format(n) end
  if n < 1024 ^ 2 then return ("%.1f KiB"):format(n / 1024) end
  if n < 1024 ^ 3 then return ("%.1f MiB"):format(n / 1024 ^ 2) end
  return ("%.2f GiB"):format(n / 1024 ^ 3)
end

M.commands.mem = {
  usage = ":mem",
  summary = "memory of Lua and of tensors",
  run = function()
    local lines = {("Lua %s"):format(bytes(collectgarbage("count") * 1024))}
    local ai = package.loaded["aijit"]
    if ai then
      local memory = ai.memory()
      local text = type(memory) == "table" and require("aijit.inspect").inspect(memory) or tostring(memory)
      lines[#lines + 1] = "tensors " .. text
    end
    return table.concat(lines, "\n")
  end,
}

--- The commands' names, sorted.
---@return string[]
function M.names()
  local names = {}
  for name in pairs(M.commands) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- What a value of the session is; functions by the comment above them.
local function about(help, name, value)
  if type(value) == "function" then
    return debug.getinfo(value, "S").what == "C" and name .. ": a function of LuaJIT" or help.text(value)
  end
  if type(value) == "table" and type(rawget(value, "__init")) == "function" then return help.text(value.__init) end
  return ("%s: %s"):format(name, require("aijit.inspect").inspect(value, {depth = 1}))
end

--- Help for a name: the session's own variables first, then what aijit knows, then globals.
---@param session table
---@param name string
---@return string
function M.help(session, name)
  if name == "" then return M.commands.help.run(session, "") end
  local help = require("aijit").help
  local text
  if not session.declared[name:match("^[%a_][%w_]*")] then
    text = help.text(name)
    if not text:find("^no help on") then return text end
  end
  local f = loadstring("return " .. name)
  local ok, value = pcall(f and setfenv(f, session.env) or error)
  if ok and value ~= nil then return about(help, name, value) end
  return text or ("%s is nil"):format(name)
end

--- Runs `line` if it is a command; its output, or nil and false when it is Lua.
---@param session table
---@param line string
---@return string? output, boolean handled
function M.run(session, line)
  local asked = line:match("^%s*%?+%s*(.-)%s*$") or line:match("^%s*([%w_.:]+)%s*%?+%s*$")
  if asked then return M.help(session, asked), true end
  local name, argument = line:match("^%s*:(%a+)%s*(.-)%s*$")
  if not name then
    if line:find("^%s*:[^:]") then return "a command is `:name`; :help lists them", true end
    return nil, false
  end
  local command = M.commands[name]
  if not command then return (":%s is no command; there are :%s"):format(name, table.concat(M.names(), ", :")), true end
  return command.run(session, argument), true
end

return M
