--- `ai.main(...)`: whether this file is the program, or was required by one.

--- A path without "./" and doubled slashes, so that the same file named twice compares equal.
local function normal(path)
  path = path:gsub("//+", "/"):gsub("/%./", "/")
  while path:sub(1, 2) == "./" do path = path:sub(3) end
  return path
end

--- True in a file run as the program (`aijit train.lua a b`, `luajit train.lua a b`), false in one that is required,
-- loaded by a test, or run by `dofile`. Call it at a file's top level: `if ai.main(...) then ... end`.
--
-- The rule, all three: the caller is a file's main chunk; that file is the one named by `arg[0]` (or the program comes
-- from standard input and `arg[0]` is "-"); and the chunk was given `arg[1]`, `arg[2]`, and so on, where `require` gives
-- a module's name. So a program that is required under its own name, by itself or in another thread, is a module there.
---@param ... any the chunk's own `...`
---@return boolean
return function(...)
  local caller = debug.getinfo(2, "S")
  local arguments = rawget(_G, "arg")
  if not caller or caller.what ~= "main" or type(arguments) ~= "table" or type(arguments[0]) ~= "string" then
    return false
  end
  local source, program = caller.source, arguments[0]
  local same = source == "=stdin" and program == "-"
    or source:sub(1, 1) == "@" and normal(source:sub(2)) == normal(program)
  if not same or select("#", ...) ~= #arguments then return false end
  for i = 1, #arguments do
    if select(i, ...) ~= arguments[i] then return false end
  end
  return true
end
