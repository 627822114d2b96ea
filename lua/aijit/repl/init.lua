-- The interactive session: reads, runs, prints. In the aijit executable it edits lines; through a pipe, or under plain luajit,
-- it reads them as they come, without prompts.

local chunk = require "aijit.repl.chunk"
local command = require "aijit.repl.command"
local complete = require "aijit.repl.complete"
local history = require "aijit.repl.history"
local report = require "aijit.repl.report"

local M = {}

local host
if package.preload["aijit.host"] then host = require "aijit.host" end

-- The name by which aijit.traceback finds where the session's own frames begin.
local protect = host and host.protect or xpcall

local Session = {__name = "aijit.repl.Session"}
Session.__index = Session

local function pack(...)
  return {n = select("#", ...), ...}
end

---@class aijit.SessionOptions
---@field write fun(text: string)?    default: to standard output
---@field width integer?              default 80
---@field colour boolean?

--- A session without a terminal: text goes in by `feed`, and comes out by `write`.
---@param opts aijit.SessionOptions?
---@return table
function M.new(opts)
  opts = opts or {}
  local function aijit() return require "aijit" end
  local space = chunk.session{
    ai = aijit,
    nn = function() return aijit().nn end,
  }
  return setmetatable({
    env = space.env,
    values = space.values,
    declared = space.declared,
    write = opts.write or function(text) io.stdout:write(text) end,
    width = opts.width or 80,
    style = report.style(opts.colour or false),
    clock = host and host.clock or os.clock,
    buffer = nil,       -- the lines of a chunk that is not whole yet
    failed = false,     -- whether any line so far failed
    done = false,
    batch = false,      -- input from a pipe
  }, Session)
end

--- Prints an error: its first line in red, the stack below it.
---@param text string
function Session:fail(text)
  self.failed = true
  local message, stack = text:match("^(.-)(\n\t.*)$")
  local style = self.style
  io.stdout:flush()
  self.write(style.red .. (message or text) .. style.off)
  if stack then self.write(style.dim .. stack .. style.off) end
  self.write("\n")
end

local function attach_core()
  local paths = package.loaded["aijit.paths"]
  if host and paths and paths.lib and package.loaded["aijit"] then host.attach(paths.lib) end
end

--- Runs a compiled chunk and shows its values.
---@param compiled aijit.Chunk
function Session:evaluate(compiled)
  chunk.enter(self, compiled)
  attach_core()
  local results = pack(protect(compiled.run, report.describe))
  if not results[1] then
    -- Ctrl-C ends a session that nobody sits at.
    if self.batch and results[2]:find("^interrupted") then error("interrupted", 0) end
    return self:fail(results[2])
  end
  local values = {n = results.n - 1}
  for i = 1, values.n do values[i] = results[i + 1] end
  -- Not if the user has a `_` of his own: `local a, _ = f()` is common.
  if values.n > 0 and (self.owns_last or not self.declared._) then
    self.owns_last = true
    self.declared._, self.values._ = true, values[1]
  end
  if compiled.silent then return nil end
  local ok, text = pcall(report.values, values, self.width)
  if not ok then return self:fail(report.message(text)) end
  if text then self.write(text .. "\n") end
end

--- Takes one line. Afterwards `session.buffer` is nil, or the chunk so far when it needs more lines.
---@param line string
function Session:feed(line)
  if not self.buffer then
    local ok, output, handled = pcall(command.run, self, line)
    if not ok then return self:fail(report.message(output)) end
    if handled then
      if output then self.write(output .. "\n") end
      return
    end
  end
  local source = self.buffer and self.buffer .. "\n" .. line or line
  local compiled = chunk.compile(source)
  if compiled.incomplete then
    self.buffer = source
    return
  end
  self.buffer = nil
  if not compiled.run then return self:fail(compiled.error) end
  for _, name in ipairs(compiled.names) do
    if name == "_" then self.owns_last = false end
  end
  self:evaluate(compiled)
end

--- Drops the chunk that is being typed.
function Session:cancel() self.buffer = nil end

local function tensor_methods(value)
  local ai = package.loaded["aijit"]
  if type(value) ~= "cdata" or not ai then return nil end
  -- A method is made when it is first named, so the table of those made so far would lack most.
  local ok, methods = pcall(function()
    if not ai.is_tensor(value) then return nil end
    local all, property = {}, ai.Tensor.properties
    for _, name in ipairs(ai.Tensor.names()) do all[name] = property[name] or type end
    return all
  end)
  return ok and methods and {methods} or nil
end

--- What Tab does after `line`: the text to insert, and the choices to show when it cannot tell.
---@param line string
---@return string? insert, string? listing
function Session:tab(line)
  if not line:find("%S") then return "  " end
  local found = complete.complete(line, {
    get = function(name)
      local ok, value = pcall(function() return self.env[name] end)
      if ok then return value end
    end,
    names = function() return {self.values, _G, {ai = true, nn = true}} end,
    methods = tensor_methods,
    glob = host and host.glob or function() return {} end,
    commands = command.names(),
  })
  local words = found.words
  if #words == 0 then return nil end
  local typed = line:sub(found.from)
  local insert = complete.common(words):sub(#typed + 1)
  if insert ~= "" or #words == 1 then return insert end
  return nil, complete.columns(words, host and host.width() or self.width)
end

local function read_plain(session)
  session.batch = true
  for line in io.lines() do
    session:feed(line)
    if session.done then break end
    io.stdout:flush()
  end
  if session.buffer then session:fail(chunk.compile(session.buffer).error or "the input ended too early") end
  return session.failed and 1 or 0
end

local function open_history()
  local path = history.path()
  if not path then return nil end
  local folder = path:match("^(.*)/[^/]*$")
  if folder and folder ~= "" then host.mkdir(folder) end
  for _, line in ipairs(history.load(path)) do host.remember(line) end
  return path
end

local function read_terminal(session)
  local version = ("aijit %s, %s"):format(host.version, jit.version)
  session.write(("%s%s%s  :help tells what can be typed here\n"):format(session.style.dim, version, session.style.off))
  local path = open_history()
  local bold, off = session.style.bold, session.style.off
  -- Escapes stand between \1, so that the editor does not count them as columns.
  local function prompt(text) return bold == "" and text or ("\1%s\1%s\1%s\1"):format(bold, text, off) end
  local function tab(line) return session:tab(line) end
  local previous
  host.session(true)
  while not session.done do
    session.width = host.width()
    local line, why = host.readline(prompt(session.buffer and ">> " or "> "), tab)
    if line then
      if line:find("%S") and line ~= previous then
        host.remember(line)
        if path then history.append(path, line) end
        previous = line
      end
      session:feed(line)
      io.stdout:flush()
    elseif why == "interrupted" then
      session.write("^C\n")
      session:cancel()
    else
      session.write("\n")
      break
    end
  end
  host.session(false)
  return 0
end

--- Reads from standard input until it ends.
---@return integer status  for exit: 0, or 1 when input from a pipe had an error
function M.run()
  local terminal = host and host.isatty(0) and host.isatty(1) and os.getenv("TERM") ~= "dumb"
  local no_colour = os.getenv("NO_COLOR")
  local session = M.new{
    width = terminal and host.width() or 80,
    colour = terminal and (not no_colour or no_colour == ""),
  }
  io.stdout:setvbuf("line")
  if terminal then return read_terminal(session) end
  return read_plain(session)
end

return M
