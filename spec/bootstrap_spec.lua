-- What the two commands of the README promise, as far as it costs little.

local process = require "support.process"

describe("rocks/bootstrap", function()
  local paths = require "aijit.tree"
  if not paths.source then
    pending("no source tree")
    return
  end
  local bootstrap = process.quote(paths.root .. "/rocks/bootstrap")

  it("tells its usage", function()
    local help = process.run(bootstrap .. " --help")
    assert.equal(0, help.status)
    assert.matches("rocks/bootstrap run FILE", help.out, 1, true)
    for _, wrong in ipairs{"", " nonsense", " run"} do
      local result = process.run(bootstrap .. wrong)
      assert.equal(1, result.status)
      assert.matches("usage:", result.err, 1, true)
    end
  end)

  it("refuses a preset that does not exist", function()
    local result = process.run(bootstrap .. " build fast")
    assert.equal(1, result.status)
    assert.matches("no such preset: 'fast'", result.err, 1, true)
  end)

  it("has every package installed after deps, without asking apt again", function()
    local result = process.run(bootstrap .. " deps", {limit = 600})
    assert.equal(0, result.status)
    local again = process.run(bootstrap .. " deps", {limit = 2})
    assert.equal(0, again.status)
    assert.equal("", again.out .. again.err)
  end)

  describe("on a bare machine", function()
    -- A path with the shell's tools alone: no compiler, no cmake.
    local folder

    local function tool(name, script)
      local file = assert(io.open(folder .. "/" .. name, "w"))
      file:write("#!/bin/sh\n", script, "\n")
      file:close()
      os.execute("chmod +x " .. folder .. "/" .. name)
    end

    local function deps() return process.run(("PATH=%s %s deps"):format(folder, bootstrap)) end

    before_each(function()
      folder = process.folder()
      for _, name in ipairs{"sh", "dirname", "env", "grep", "sed"} do
        os.execute(("ln -s $(command -v %s) %s/%s"):format(name, folder, name))
      end
      tool("id", "echo 0")
    end)

    after_each(function() os.execute("rm -r " .. folder) end)

    it("names the packages where there is no apt", function()
      local result = deps()
      assert.equal(1, result.status)
      assert.matches("on Debian and Ubuntu they are called: .*cmake", result.err)
    end)

    it("says what it installs, and installs it", function()
      tool("apt-get", "echo apt-get \"$@\"")
      local result = deps()
      assert.equal(0, result.status)
      assert.matches("installing: .*cmake.*lua%-busted", result.err)
      assert.matches("apt%-get install .*cmake.*lua%-busted", result.err)
      assert.is_nil(result.err:find("apt-get update", 1, true))
    end)

    it("fetches the list of packages when they are not found, and tells when that did not help", function()
      tool("apt-get", "echo apt-get $1; [ $1 = update ]")
      local result = deps()
      assert.equal(1, result.status)
      assert.matches("apt%-get install\napt%-get update\napt%-get install\n", result.err)
      assert.matches("could not be installed: .*cmake", result.err)
    end)

    it("asks for sudo only when it is not root", function()
      tool("id", "echo 1000")
      tool("apt-get", "echo apt-get")
      assert.matches("as root, please: apt-get install", deps().err, 1, true)
      tool("sudo", "echo sudo \"$@\"")
      assert.matches("sudo .*apt%-get install", deps().err)
    end)
  end)

  it("is clean under shellcheck", function()
    if not process.has("shellcheck") then return pending("no shellcheck") end
    assert.equal("", process.run("shellcheck " .. bootstrap).out)
  end)
end)
