--- Tar archives: what their lists say, hostile ones refused with a reason.

local archive = require "aijit.data.archive"
local file = require "aijit.bindings.file"
local files = require "spec.support.files"
local format = require "aijit.bindings.format"
local process = require "spec.support.process"

local entry = files.tar_entry
local finish = ("\0"):rep(1024)

local function read(bytes)
  local blob = file.blob(bytes, "a.tar")
  local ok, names, offsets, sizes = pcall(format.tar_read, blob)
  local texts = {}
  for i = 1, ok and #names or 0 do
    local part = file.slice(blob, offsets[i], sizes[i], names[i])
    texts[i] = file.text(part)
    file.close(part)
  end
  file.close(blob)
  if not ok then error(names, 0) end
  return names, texts
end

local function refused(bytes)
  local ok, problem = pcall(read, bytes)
  assert.is_false(ok)
  return (tostring(problem):gsub("^[^\n]-:%d+: ", "", 1))
end

describe("a tar archive", function()
  it("lists its files and their bytes", function()
    local names, texts = read(entry("a.txt", "hello") .. entry("d/", "", {type = "5"}) .. entry("d/b", ("x"):rep(512)) .. entry("empty", "") .. finish)
    assert.same({"a.txt", "d/b", "empty"}, names)
    assert.same({"hello", ("x"):rep(512), ""}, texts)
  end)

  it("has long names: of POSIX's prefix, of pax, of GNU", function()
    local long = ("n"):rep(150)
    local pax = ("%d path=%s\n"):format(#long + 10, long)
    local names = read(entry("file", "1", {prefix = "some/folder"}) .. entry("x", pax, {type = "x"}) .. entry("short", "2")
      .. entry("././@LongLink", long .. "\0", {type = "L"}) .. entry("short", "3") .. entry("after", "4") .. finish)
    assert.same({"some/folder/file", long, long, "after"}, names)
  end)

  it("has sizes in base 256 and of pax, and sums with signs", function()
    local big = "\128" .. ("\0"):rep(10) .. "\3"
    local _, texts = read(entry("a", "abc", {size = big}) .. entry("x", "10 size=4\n", {type = "x"}) .. entry("b", "wxyz", {size = "00000000000\0"}) .. finish)
    assert.same({"abc", "wxyz"}, texts)
    local h = entry("\200\201", "q")
    local sum = 0
    for i = 1, 512 do
      local c = (i >= 149 and i <= 156) and 32 or h:byte(i)
      sum = sum + (c > 127 and c - 256 or c)
    end
    assert.same({"\200\201"}, (read(h:sub(1, 148) .. ("%06o\0 "):format(sum) .. h:sub(157) .. finish)))
  end)

  it("passes over links, devices, folders of old, and global headers", function()
    local names = read(entry("l", "", {type = "2"}) .. entry("h", "", {type = "1"}) .. entry("g", "9 a=bcde\n", {type = "g"}) .. entry("old/", "")
      .. entry("v7", "z", {type = "\0", magic = ("\0"):rep(8)}) .. finish)
    assert.same({"v7"}, names)
  end)

  it("ends at a block of zeros, or where it ends", function()
    assert.same({"a"}, (read(entry("a", "x"))))
    assert.same({"a"}, (read(entry("a", "x"):sub(1, 513))))
    assert.same({"a"}, (read(entry("a", "x") .. finish .. "rubbish")))
    assert.same({}, (read ""))
  end)

  it("is refused with a reason", function()
    assert.equal("tar: a.tar: at byte 0: the archive is cut short within a header", refused("x"))
    assert.equal("tar: a.tar: at byte 0: its checksum is wrong: is this a tar file?", refused(("x"):rep(512)))
    assert.equal("tar: a.tar: at byte 1024: a header whose checksum is wrong", refused(entry("a", "x") .. ("y"):rep(512)))
    assert.equal("tar: a.tar: 3 bytes short: the entry at byte 0 has 5", refused(entry("a", "hello"):sub(1, 514)))
    assert.equal("tar: a.tar: at byte 0: a size that is no number", refused(entry("a", "", {size = "0000000000x\0"})))
    assert.equal("tar: a.tar: at byte 0: a size that is no number", refused(entry("a", "", {size = "\255" .. ("\255"):rep(11)})))
    assert.equal("tar: a.tar: at byte 0: a size that is no number", refused(entry("a", "", {size = "\128" .. ("\255"):rep(11)})))
    assert.matches("^tar: a.tar: %d+ bytes short", refused(entry("a", "", {size = "77777777777\0"})))
    assert.equal("tar: a.tar: at byte 0: a file without a name", refused(entry("", "x")))
    assert.equal("tar: a.tar: at byte 0: a sparse file; such are not read", refused(entry("a", "x", {type = "S"})))
    for _, pax in ipairs {"x", "5", "99 path=a\n", "6 path", "3 a\n", "10 path=abc", "0 path=a\n", "18446744073709551617 path=a\n"} do
      assert.equal("tar: a.tar: at byte 0: a pax header whose records do not fit it", refused(entry("x", pax, {type = "x"}) .. entry("a", "b")))
    end
    assert.equal("tar: a.tar: at byte 0: a pax header with a size that is no number", refused(entry("x", "9 size=-\n", {type = "x"}) .. finish))
    assert.equal("tar: a.tar: at byte 0: a name longer than 4096 bytes", refused(entry("L", ("n"):rep(5000), {type = "L"}) .. entry("a", "b")))
  end)

  it("is unpacked into a folder, and never outside of it", function()
    local folder = files.folder()
    local path = files.put(folder .. "/a.tar", entry("d/e/a", "hello") .. entry("/absolute", "x") .. finish)
    assert.same({"d/e/a", "absolute"}, archive.unpack(path, folder .. "/to"))
    assert.equal("hello", files.get(folder .. "/to/d/e/a"))
    assert.equal("x", files.get(folder .. "/to/absolute"))
    files.put(path, files.gzip(entry("g", "zipped") .. finish))
    archive.unpack(path, folder .. "/to")
    assert.equal("zipped", files.get(folder .. "/to/g"))
    files.put(path, entry("good", "x") .. entry("d/../../out", "x") .. finish)
    local ok, problem = pcall(archive.unpack, path, folder .. "/to")
    assert.is_false(ok)
    assert.matches("the file 'd/../../out' would lie outside of the folder", problem)
    assert.is_nil(io.open(folder .. "/to/good"))
    files.remove(folder)
  end)

  it("of GNU tar is read, whichever format it writes", function()
    if not process.has "tar" then return pending "needs tar" end
    local folder = files.folder()
    local long = ("long"):rep(40) .. ".txt"
    os.execute(("mkdir -p %s/in/deep && printf hello > %s/in/%s && printf '%%s' '%s' > %s/in/deep/x"):format(folder, folder, long, ("b"):rep(700), folder))
    for _, kind in ipairs {"ustar", "gnu", "pax", "v7"} do
      local path = folder .. "/" .. kind .. ".tar"
      local output = files.run(("tar --format=%s -cf %s -C %s/in ."):format(kind, path, folder))
      if output == "" then
        local names, texts = read(files.get(path))
        local got = {}
        for i, name in ipairs(names) do got[name] = texts[i] end
        assert.equal(("b"):rep(700), got["./deep/x"], kind)
        assert.equal("hello", got["./" .. long], kind)
      end
    end
    files.remove(folder)
  end)
end)
