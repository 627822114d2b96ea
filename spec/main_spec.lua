local process = require "support.process"

describe("ai.main", function()
  local luajit = "luajit"
  local lua_folder = require("aijit.tree").lua
  local folder = process.folder()
  teardown(function() os.execute("rm -r " .. folder) end)

  local function run(command_line)
    local path = ("LUA_PATH='%s/?.lua;%s/?/init.lua;%s/?.lua;;'"):format(lua_folder, lua_folder, folder)
    local pipe = io.popen(("cd %s && %s %s %s 2>&1"):format(folder, path, luajit, command_line))
    local output = pipe:read("*a")
    pipe:close()
    return output
  end
  local function write(name, content)
    local handle = assert(io.open(folder .. "/" .. name, "wb"))
    handle:write(content)
    handle:close()
  end
  write("train.lua", 'local main = require "aijit".main\nio.write("train:", tostring(main(...)), " ")\nreturn {}\n')
  write("other.lua", 'require "train"\nlocal main = require "aijit".main\nio.write("other:", tostring(main(...)), " ")\n')
  write("self.lua", 'local main = require "aijit".main\nlocal is = main(...)\nio.write(tostring(is), " ")\n'
    .. 'if is then require "self" end\n')
  write("inside.lua", 'local main = require "aijit".main\n'
    .. 'local function f(...) return (main(...)) end\nio.write(tostring(f(...)))\n')
  write("dofile.lua", 'dofile "train.lua"\n')

  it("is true in the program, with and without arguments", function()
    assert.equal("train:true ", run "train.lua")
    assert.equal("train:true ", run "./train.lua a=1 --help")
    assert.equal("train:true ", run(folder .. "/train.lua x"))
  end)

  it("is false in what the program requires", function() assert.equal("train:false other:true ", run "other.lua train") end)

  it("is false in a program that is required under its own name", function() assert.equal("true false ", run "self.lua") end)

  it("is false within a function", function() assert.equal("false", run "inside.lua") end)

  it("is false under dofile", function() assert.equal("train:false ", run "dofile.lua") end)

  it("is true for a program from standard input", function() assert.equal("train:true ", run "- < train.lua") end)
end)
