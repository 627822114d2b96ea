--- Adding an elementwise op takes one line: a copy of the sources gets a row, is built, and passes that row's tests.

local function sh(command)
  local p = io.popen(command .. " 2>&1; echo \"status $?\"")
  local out = p:read "*a"
  p:close()
  return out:match "status (%d+)%s*$" == "0", out
end

describe("a new row in ops.def #slow", function()
  it("is an op with a kernel, a gradient of any order, a method, help and tests", function()
    local dir = os.tmpname()
    os.remove(dir)
    assert.is_true(sh(("mkdir -p %s && cp -r core bindings lua spec CMakeLists.txt %s"):format(dir, dir)))
    local path = dir .. "/core/ops.def"
    local file = assert(io.open(path))
    local text = file:read "*a"
    file:close()
    local row = 'UNARY(cube_root_like, FLOAT, x / sqrt(1 + x * x), 1 / (sqrt(1 + x * x) * (1 + x * x)), "3x4", "x / sqrt(1 + x * x)")\n'
    local changed, n = text:gsub("\nUNARY%(relu,", function() return "\n" .. row .. "UNARY(relu," end, 1)
    assert.are.equal(1, n)
    file = assert(io.open(path, "w"))
    file:write(changed)
    file:close()
    local ok, out = sh(("cmake -S %s -B %s/build/release -G Ninja -DCMAKE_BUILD_TYPE=Debug && ninja -C %s/build/release -j2 libaijit"):format(dir, dir, dir))
    assert.is_true(ok, out:sub(-2000))
    local options = "--lua=luajit --helper=spec/helper.lua --lpath=./?.lua -o TAP --filter=cube_root_like"
    ok, out = sh(("cd %s && AIJIT_LIB=%s/build/release/libaijit.so busted %s spec/op_spec.lua"):format(dir, dir, options))
    assert.is_true(ok, out:sub(-2000))
    local _, passed = out:gsub("ok %d+ %- op cube_root_like", "")
    assert.is_true(passed >= 6, out)
    assert.is_nil(out:find "not ok")
    sh("rm -rf " .. dir)
  end)
end)
