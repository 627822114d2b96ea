std = "luajit"
max_line_length = 130
unused_args = false        -- an argument documents a contract even where one implementation has no use for it
exclude_files = {"build", "build.luarocks"}

files["spec"] = {std = "+busted"}
files["examples"] = {std = "luajit"}
