local aio = require "aijit.io"
local json = require "aijit.json"
local file = require "aijit.io.file"
local core = require "aijit.bindings.file"
require "support.like"
local files = require "support.files"

local folder
local function at(name) return folder .. "/" .. name end
local function fails(f, why) assert.has_error_like(f, why) end

describe("files", function()
  before_each(function() folder = files.folder() end)
  after_each(function()
    core.fail(0)
    files.remove(folder)
  end)

  describe("are replaced in one step:", function()
    it("the bytes are there, and nothing else is", function()
      for _, bytes in ipairs{"", "x", ("0123456789"):rep(20000), "\0\255\0"} do
        file.write(at "x", bytes)
        assert.is_true(file.read(at "x") == bytes)
        assert.are.same({"x"}, files.list(folder))
      end
    end)

    it("a failure at any write, sync or rename leaves the old file and no other", function()
      local tensor = files.tensor("U8", {200000}, files.noise(200000))
      local writes = {
        function() file.write(at "x", ("y"):rep(300000)) end,
        function() aio.save({a = tensor, b = tensor}, at "x", {format = "safetensors"}) end,
        function() aio.save(tensor, at "x", {format = "npy"}) end,
        function() aio.save({1, 2}, at "x", {format = "json"}) end,
      }
      for _, write in ipairs(writes) do
        local n = 1
        repeat
          files.put(at "x", "the old file")
          core.fail(n)
          local done = pcall(write)
          core.fail(0)
          if not done and file.read(at "x") ~= "the old file" then
            -- The last step is the sync of the folder: the new file is in place then, whole.
            core.fail(n)
            fails(write, "is in place, but its folder cannot be synced: Input/output error")
          elseif not done then
            core.fail(n)
            fails(write, "file: .*/x: cannot be %a+: Input/output error")
          end
          assert.are.same({"x"}, files.list(folder))
          n = n + 1
        until done
        assert.is_true(n >= 5)
      end
    end)

    it("what a full disk refuses leaves the old file", function()
      local _, root = files.run "test $(id -u) = 0"
      if not root then return pending "needs root, to mount a small disk" end
      local disk = at "disk"
      os.execute("mkdir " .. disk)
      local output, mounted = files.run("mount -t tmpfs -o size=256k tmpfs " .. disk)
      if not mounted then return pending("cannot mount a small disk: " .. output) end
      finally(function() files.run("umount " .. disk) end)
      local path = disk .. "/x.npy"
      aio.save(files.tensor("U8", {1000}, files.noise(1000)), path)
      local old = files.get(path)
      local big = files.tensor("U8", {400000}, files.noise(400000))
      fails(function() aio.save(big, path) end, "x%.npy: cannot be written: No space left on device")
      fails(function() aio.save({big}, disk .. "/y.safetensors") end, "No space left on device")
      assert.is_true(files.get(path) == old)
      assert.are.same({"x.npy"}, files.list(disk))
    end)

    it("what a limit on file sizes refuses leaves the old file", function()
      files.put(at "x", "the old file")
      local script = files.put(at "s.lua", ([[
        package.path = %q
        require "aijit.tree"
        local file = require "aijit.io.file"
        print(pcall(file.write, %q, ("x"):rep(100000)))
      ]]):format(package.path, at "x"))
      local output = files.run(("sh -c 'trap \"\" XFSZ; ulimit -f 20; luajit %s'"):format(script))
      assert.is_truthy(output:find("x: cannot be written: File too large", 1, true), output)
      assert.are.equal("the old file", files.get(at "x"))
      assert.are.same({"s.lua", "x"}, files.list(folder))
    end)

    it("a kill at any moment leaves the old file or the new one", function()
      local old, new = ("a"):rep(2000000), ("b"):rep(2000000)
      local script = files.put(at "s.lua", ([[
        package.path = %q
        require "aijit.tree"
        local file = require "aijit.io.file"
        io.open(%q, "w"):close()
        while true do
          file.write(%q, ("b"):rep(2000000))
          file.write(%q, ("a"):rep(2000000))
        end
      ]]):format(package.path, at "ready", at "x", at "x"))
      local renewed = false
      for _ = 1, 10 do
        os.remove(at "ready")
        files.put(at "x", old)
        local command = "luajit %s & p=$!; for i in $(seq 500); do [ -e %s ] && break; sleep 0.01; done; sleep 0.%02d; kill -9 $p; wait $p"
        files.run(("sh -c '%s' 2>/dev/null"):format(command:format(script, at "ready", math.random(1, 12))))
        local bytes = files.get(at "x")
        assert.is_true(bytes == old or bytes == new)
        renewed = renewed or bytes == new
      end
      assert.is_true(renewed)
      -- What the killed ones left is gone when the file is written again.
      file.write(at "x", "done")
      assert.are.same({"ready", "s.lua", "x"}, files.list(folder))
    end)

    it("two writers at a time do not meet, and no other file is taken for a stale one", function()
      local script = files.put(at "s.lua", ([[
        package.path = %q
        require "aijit.tree"
        local file = require "aijit.io.file"
        for i = 1, 300 do file.write(%q, arg[1]:rep(100000)) end
      ]]):format(package.path, at "x"))
      os.execute(("ln -s real %s; echo kept > %s"):format(at ".link.aijit-tmp", at "real"))
      local output, ok = files.run(("sh -c 'luajit %s a & luajit %s b & luajit %s c; wait'"):format(script, script, script))
      assert.are.same({"", true}, {output, ok})
      local bytes = files.get(at "x")
      assert.are.equal(bytes:sub(1, 1):rep(100000), bytes)
      file.write(at "link", "x")
      assert.are.equal("kept\n", files.get(at "real"))
      os.remove(at ".link.aijit-tmp")
      assert.are.same({"link", "real", "s.lua", "x"}, files.list(folder))
    end)

    it("a request to stop leaves the old file", function()
      local C = require("aijit.bindings.lib").C
      finally(function() C.aj_interrupt(false) end)
      files.put(at "x", "the old file")
      local long = ("x"):rep(2 ^ 26 + 1)
      files.put(at "long", long)
      for _, work in ipairs{
        function() file.write(at "x", long) end, function() file.sha256_file(at "long") end,
        function() core.open(at "long", false) end, function() core.gunzip(files.gzip(long:sub(1, 300000))) end,
        function() file.download("file://" .. at "long", at "y") end,
      } do
        C.aj_interrupt(true)
        fails(work, "interrupted")
        C.aj_interrupt(false)
      end
      assert.are.equal("the old file", files.get(at "x"))
      assert.are.same({"long", "x"}, files.list(folder))
    end)

    it("keeps the file's mode, and a symbolic link", function()
      files.put(at "real", "old")
      os.execute(("chmod 640 %s; ln -s real %s"):format(at "real", at "link"))
      file.write(at "link", "new")
      assert.are.equal("new", files.get(at "real"))
      assert.are.equal("640", (files.run("stat -c %a " .. at "real"):gsub("%s", "")))
      assert.are.equal("real", (files.run("readlink " .. at "link"):gsub("%s", "")))
    end)

    it("gives a new file the mode that the umask leaves", function()
      file.write(at "x", "")
      local umask = files.run "umask":gsub("%s", "")
      local mode = files.run("stat -c %a " .. at "x"):gsub("%s", "")
      assert.are.equal(bit.band(tonumber("666", 8), bit.bnot(tonumber(umask, 8))), tonumber(mode, 8))
    end)

    it("refuses what is no file, and folders that are not there", function()
      fails(function() file.write(folder, "x") end, "is a folder")
      fails(function() file.write("/dev/null", "x") end, "not a regular file")
      fails(function() file.write(at "no/x", "x") end, "no/x: cannot be created: No such file or directory")
      fails(function() file.write(at "x/y", "x") end, "cannot be created")
      fails(function() file.write(at "x\0y", "x") end, "zero byte")
      fails(function() file.write(at(("n"):rep(300)), "x") end, "File name too long")
      fails(function() file.write(nil, "x") end, "the path must be a string, got nil")
      fails(function() file.write(at "x", 7) end, "the bytes must be a string, got number")
      local longest = ("n"):rep(255)
      file.write(at(longest), "x")
      assert.are.same({longest}, files.list(folder))
    end)

    it("renames files and folders that were written in other ways", function()
      os.execute("mkdir " .. at "ckpt.tmp")
      file.write(at "ckpt.tmp/x", "x")
      file.sync(at "ckpt.tmp")
      file.replace(at "ckpt.tmp", at "ckpt")
      assert.are.equal("x", files.get(at "ckpt/x"))
      fails(function() file.replace(at "none", at "y") end, "cannot be renamed to .*y: No such file")
      fails(function() file.sync(at "none") end, "cannot be synced: No such file")
    end)
  end)

  describe("are read", function()
    it("whole, or not at all", function()
      fails(function() file.read(at "none") end, "none: cannot be opened: No such file or directory")
      fails(function() file.read(folder) end, "is a folder, not a file")
      fails(function() file.read "/dev/zero" end, "is not a regular file")
      fails(function() file.read(7) end, "the path must be a string, got number")
      os.execute("mkfifo " .. at "fifo")
      fails(function() file.read(at "fifo") end, "is not a regular file")
    end)

    it("by their extension, and by their first bytes", function()
      local t = files.tensor("U8", {2, 1, 1}, "ab")
      for _, name in ipairs{"x.npy", "x.png", "x.safetensors", "x.json"} do
        local value = name == "x.safetensors" and {x = t} or name == "x.json" and {a = {1}} or t
        aio.save(value, at(name))
        aio.save(value, at "blank", {format = name:match "%.(%w+)"})
        for _, path in ipairs{at(name), at "blank"} do
          local back = aio.load(path)
          if name == "x.json" then assert.are.same(value, back)
          else assert.are.same({files.describe(t)}, {files.describe(name == "x.safetensors" and back.x or back)}) end
        end
        local back = aio.decode(files.get(at(name)))
        assert.is_truthy(back)
      end
    end)

    it("or refused with a hint", function()
      fails(function() aio.load(files.put(at "x.pt", "PK\3\4zip")) end, "pt: .*is not a zip archive, or is cut short")
      fails(function() aio.load(files.put(at "x.pkl", "\128\2}q\0.")) end, "a pickle, which runs code")
      fails(function() aio.load(files.put(at "x", "hello")) end, "neither its name nor its first bytes tell the format")
      fails(function() aio.load(files.put(at "y", "")) end, "neither its name nor its first bytes")
      fails(function() aio.load(files.put(at "x.npy", "PK\3\4")) end, "npy: .*does not begin as")
      fails(function() aio.load(files.put(at "x.json", "{")) end, "json: line 1")
      fails(function() aio.load(nil) end, "the path must be a string, got nil")
      fails(function() aio.save({}, 7) end, "the path must be a string, got number")
      fails(function() aio.encode({}, {format = "pdf"}) end, 'format "pdf" is not known; there are')
      fails(function() aio.encode({}) end, "the option format must say which")
    end)
  end)

  it("keep settings as JSON that people can read", function()
    aio.save({lr = 1e-3, layers = {1, 2}}, at "x.json")
    assert.are.equal('{\n  "layers": [1, 2],\n  "lr": 0.001\n}\n', files.get(at "x.json"))
    assert.are.same({lr = 1e-3, layers = {1, 2}}, aio.load(at "x.json"))
    fails(function() aio.save({x = 0 / 0}, at "x.json") end, "at .x: NaN")
    assert.are.equal("1e-3", tostring(json.decode(files.get(at "x.json")).lr) == "0.001" and "1e-3")
  end)

  describe("have checksums:", function()
    it("SHA-256", function()
      assert.are.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", file.sha256 "")
      assert.are.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", file.sha256 "abc")
      assert.are.equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", file.sha256(("a"):rep(1000000)))
      for _, n in ipairs{1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 3000000} do
        local data = files.noise(n)
        files.put(at "x", data)
        assert.are.equal(files.run("sha256sum " .. at "x"):match "%x+", file.sha256_file(at "x"))
        assert.are.equal(file.sha256(data), file.sha256_file(at "x"))
      end
      fails(function() file.sha256_file(at "none") end, "cannot be opened")
      fails(function() file.sha256_file(folder) end, "cannot be read: Is a directory")
    end)

    it("CRC-32 and CRC-32C, in one piece or several", function()
      assert.are.equal(0xCBF43926, file.crc32 "123456789")
      assert.are.equal(0xE3069283, file.crc32c "123456789")
      assert.are.equal(0x8A9136AA, file.crc32c(("\0"):rep(32)))
      assert.are.equal(0, file.crc32 "")
      assert.are.equal(0, file.crc32c "")
      local data = files.noise(1000)
      for _, n in ipairs{0, 1, 7, 8, 9, 500} do
        assert.are.equal(file.crc32(data), file.crc32(data:sub(n + 1), file.crc32(data:sub(1, n))))
        assert.are.equal(file.crc32c(data), file.crc32c(data:sub(n + 1), file.crc32c(data:sub(1, n))))
      end
      assert.are.equal(files.crc32(data), file.crc32(data))
    end)
  end)

  describe("are fetched:", function()
    local function url() return "file://" .. at "source" end

    it("to a temporary name, then renamed", function()
      local data = files.noise(100000)
      files.put(at "source", data)
      assert.are.equal(at "x", file.download(url(), at "x", {sha256 = file.sha256(data):upper()}))
      assert.is_true(files.get(at "x") == data)
      assert.are.same({"source", "x"}, files.list(folder))
    end)

    it("only when they are not there, or not as they should be", function()
      files.put(at "source", "new")
      files.put(at "x", "old")
      file.download(url(), at "x")
      assert.are.equal("old", files.get(at "x"))
      file.download(url(), at "x", {sha256 = file.sha256 "new"})
      assert.are.equal("new", files.get(at "x"))
      files.put(at "source", "newer")
      file.download(url(), at "x", {force = true})
      assert.are.equal("newer", files.get(at "x"))
    end)

    it("from where an interrupted download stopped, if a checksum will tell", function()
      local data = files.noise(100000)
      files.put(at "source", data)
      files.put(at "x.part", data:sub(1, 60000))
      file.download(url(), at "x", {sha256 = file.sha256(data)})
      assert.is_true(files.get(at "x") == data)
    end)

    it("anew, if what lay there was of another file, or if nothing can tell", function()
      local data = files.noise(100000)
      files.put(at "source", data)
      for _, part in ipairs{("x"):rep(60000), ("x"):rep(100000), data .. "more"} do
        for _, opts in ipairs{{sha256 = file.sha256(data)}, {}} do
          os.remove(at "x")
          files.put(at "x.part", part)
          file.download(url(), at "x", opts)
          assert.is_true(files.get(at "x") == data)
        end
      end
      assert.are.same({"source", "x"}, files.list(folder))
    end)

    it("never with a wrong checksum", function()
      files.put(at "source", "forged")
      files.put(at "x", "old")
      fails(function() file.download(url(), at "x", {sha256 = file.sha256 "true"}) end, "the SHA%-256 of what came is %x+, wanted is %x+")
      assert.are.equal("old", files.get(at "x"))
    end)

    it("up to a size", function()
      files.put(at "source", ("x"):rep(1000))
      fails(function() file.download(url(), at "x", {max_bytes = 999}) end, "larger than max_bytes = 999")
      file.download(url(), at "x", {max_bytes = 1000})
      assert.are.equal(1000, #files.get(at "x"))
    end)

    it("or an error says what to do", function()
      fails(function() file.download("http://127.0.0.1:1/x", at "x") end, "offline%? Put the file at .*/x yourself, or pass a url")
      fails(function() file.download("gopher://127.0.0.1/x", at "x") end, "url must be http")
      fails(function() file.download("not a url", at "x") end, "download: not a url: ")
      fails(function() file.download(url(), at "x") end, "download: file://.*source")
      fails(function() file.download(url(), at "none/x") end, "none/x%.part: cannot be created")
      fails(function() file.download(url(), at "x", {sha256 = "abc"}) end, "64 hexadecimal digits")
      fails(function() file.download(nil, at "x") end, "the url must be a string, got nil")
      assert.are.same({}, files.list(folder))
    end)

    local python = files.python "http.server"
    local server = python and it or pending
    server("over HTTP: in ranges, through redirects, and not without an answer", function()
      local script = files.put(at "s.py", [[
import http.server, sys
data = open(sys.argv[1], "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): open(sys.argv[3], "a").write("%s %s\n" % (self.path, self.headers.get("Range")))
    def do_GET(self):
        self.log_message()
        first = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if self.path == "/moved":
            self.send_response(302); self.send_header("Location", "/x"); self.end_headers(); return
        if self.path == "/away":
            self.send_response(302); self.send_header("Location", "file:///etc/passwd"); self.end_headers(); return
        if self.path not in ("/x", "/short", "/whole"):
            self.send_error(404); return
        if self.path == "/whole": first = 0
        elif first >= len(data):
            self.send_error(416); return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(data) - first))
        if first: self.send_header("Content-Range", "bytes %d-%d/%d" % (first, len(data) - 1, len(data)))
        self.end_headers()
        self.wfile.write(data[first:first + 40000] if self.path == "/short" else data[first:])
s = http.server.HTTPServer(("127.0.0.1", 0), Handler)
open(sys.argv[2] + ".tmp", "w").write(str(s.server_port))
import os; os.rename(sys.argv[2] + ".tmp", sys.argv[2])
s.serve_forever()
]])
      local data = files.noise(100000)
      files.put(at "source", data)
      local pid = files.run(("sh -c '%s %s %s %s %s >/dev/null 2>&1 & echo $!'"):format(python, script, at "source", at "port", at "log")):match "%d+"
      finally(function() files.run("kill " .. pid) end)
      files.run(("for i in $(seq 500); do [ -e %s ] && break; sleep 0.02; done"):format(at "port"))
      local root, sum = "http://127.0.0.1:" .. files.get(at "port"), file.sha256(data)

      file.download(root .. "/moved", at "x", {sha256 = sum})
      assert.is_true(files.get(at "x") == data)
      fails(function() file.download(root .. "/none", at "y") end, "the server answered 404: check the url")
      fails(function() file.download(root .. "/away", at "y") end, "download: ")
      -- The server breaks off after 40000 bytes, and the next attempts go on from there.
      fails(function() file.download(root .. "/short", at "y", {sha256 = sum}) end, "try again to go on from here")
      fails(function() file.download(root .. "/short", at "y", {sha256 = sum}) end, "try again to go on from here")
      file.download(root .. "/short", at "y", {sha256 = sum})
      assert.is_true(files.get(at "y") == data)
      local log = files.get(at "log")
      assert.is_truthy(log:find("/short bytes=40000-", 1, true))
      assert.is_truthy(log:find("/short bytes=80000-", 1, true))
      -- All bytes were there already; and a server that knows no ranges.
      files.put(at "z.part", data)
      file.download(root .. "/x", at "z", {sha256 = sum})
      files.put(at "w.part", data:sub(1, 500))
      file.download(root .. "/whole", at "w", {sha256 = sum})
      assert.is_true(files.get(at "z") == data and files.get(at "w") == data)
      fails(function() file.download(root .. "/x", at "v", {max_bytes = 50000}) end, "larger than max_bytes")
    end)
  end)
end)
