-- Runs before the specs. busted loads modules anew for each spec file, but a ctype keeps the metatable of its first load;
-- what is loaded here stays.

local root = debug.getinfo(1, "S").source:match("^@(.*)spec/helper%.lua$")
root = root == "" and "./" or root
package.path = root .. "lua/?.lua;" .. root .. "lua/?/init.lua;" .. root .. "spec/?.lua;" .. package.path

-- What the user of this machine has set for all programs is not for specs; their programs inherit this.
local ffi = require "ffi"
ffi.cdef 'int aijit_spec_setenv(const char *name, const char *value, int overwrite) __asm__("setenv");'
ffi.C.aijit_spec_setenv("AIJITRC", "", 1)

local paths = require "aijit.tree"
if paths.lib or os.getenv("AIJIT_LIB") then
  local ok, message = pcall(function()
    require "aijit"
    -- `ai` stays, and so must the parts that it keeps: a class loaded twice would be two classes.
    for _, part in ipairs {"class", "config", "nn", "optim", "model", "log", "data", "data.loader", "data.mnist", "data.cache", "task"} do
      require("aijit." .. part)
    end
  end)
  if not ok then io.stderr:write("spec/helper.lua: aijit does not load: ", tostring(message):match("[^\n]*"), "\n") end
else
  io.stderr:write("spec/helper.lua: there is no libaijit.so; rocks/bootstrap build makes it\n")
end
