--- The message of the error that f(...) raises; that it raises none is a failure.
---@param f function
---@param ... any
---@return string
return function(f, ...)
  local ok, problem = pcall(f, ...)
  if ok then error("an error was wanted, and there was none", 2) end
  return tostring(problem)
end
