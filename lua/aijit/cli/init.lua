-- The subcommands of aijit: `aijit WORD arguments` is require("aijit.cli.WORD").run(arguments), whose result is the exit status.

local M = {}

--- The subcommands that are there, sorted.
---@return string[]
function M.names()
  local host, paths = require "aijit.host", require "aijit.tree"
  local names = {}
  for _, file in ipairs(host.glob(paths.lua .. "/aijit/cli/*.lua")) do
    local name = file:match("([a-z]+)%.lua$")
    if name and name ~= "init" then names[#names + 1] = name end
  end
  return names
end

--- Prints a line for each subcommand, below the options that the executable itself shows.
function M.help()
  print("\nsubcommands (a file of the same name is run as ./NAME):")
  for _, name in ipairs(M.names()) do
    print(("  %-11s %s"):format(name, require("aijit.cli." .. name).summary))
  end
end

return M
