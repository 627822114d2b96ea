--- Where data sets are kept on this machine.

--- The folder for data sets: $DATA_DIR, else what ~/.aijit.yaml says, else $XDG_DATA_HOME/aijit, else ~/.local/share/aijit. It need not exist.
---@return string path without a slash at its end
return function()
  local given = require("aijit.config.user").directory("data", "DATA_DIR")
  if given then return given end
  local shared = os.getenv("XDG_DATA_HOME")
  if not shared or shared == "" then
    local home = os.getenv("HOME")
    if not home or home == "" then
      error("ai.get_data_dir: set DATA_DIR to a folder for data sets ($HOME and $XDG_DATA_HOME are not set either)", 2)
    end
    shared = home .. "/.local/share"
  end
  return shared .. "/aijit"
end
