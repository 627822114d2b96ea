// The executable finds its own Lua files, wherever it was installed: a build tree names its source tree in the file
// aijit.root beside the executable; an install prefix or a rock tree has share/lua/5.1 in a folder above it.

#include "host.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool has_tree(const char *lua)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/aijit/tree.lua", lua);
    return access(path, R_OK) == 0;
}

static bool in_build_tree(struct tree *tree)
{
    char path[PATH_MAX + 16], root[PATH_MAX - 16];
    snprintf(path, sizeof path, "%s/aijit.root", tree->dir);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool read = fgets(root, sizeof root, file) != NULL;
    fclose(file);
    if (!read) return false;
    root[strcspn(root, "\n")] = 0;
    snprintf(tree->lua, sizeof tree->lua, "%s/lua", root);
    return has_tree(tree->lua);
}

static bool in_prefix(struct tree *tree)
{
    // Above and not only beside: LuaRocks may leave the executable in its own folder deep in the tree and link to it.
    static const char below[] = "/share/lua/5.1";
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", tree->dir);
    for (char *slash = strrchr(folder, '/'); slash; slash = strrchr(folder, '/')) {
        *slash = 0;
        if (strlen(folder) + sizeof below > sizeof tree->lua) continue;
        memcpy(tree->lua, folder, strlen(folder) + 1);
        strcat(tree->lua, below);
        if (has_tree(tree->lua)) {
            memcpy(tree->prefix, folder, strlen(folder) + 1);
            return true;
        }
    }
    return false;
}

bool tree_find(struct tree *tree)
{
    memset(tree, 0, sizeof *tree);
    ssize_t n = readlink("/proc/self/exe", tree->exe, sizeof tree->exe - 1);
    if (n <= 0) return false;
    memcpy(tree->dir, tree->exe, (size_t)n);
    char *slash = strrchr(tree->dir, '/');
    if (!slash) return false;
    *slash = 0;
    if (in_build_tree(tree) || in_prefix(tree)) return true;
    tree->lua[0] = 0;
    return false;
}

static void prepend(lua_State *L, const char *field, const char *front)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, field);
    lua_pushfstring(L, "%s;%s", front, lua_tostring(L, -1));
    lua_setfield(L, -3, field);
    lua_pop(L, 2);
}

// In front also of what LUA_PATH adds: Lua files of another version of aijit would not fit this executable.
void tree_set_paths(lua_State *L, const struct tree *tree)
{
    if (!tree->lua[0]) return;
    prepend(L, "path", lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", tree->lua, tree->lua));
    lua_pop(L, 1);
    if (!tree->prefix[0]) return;
    static const char *const folders[] = {AIJIT_LIBDIR, "lib"};         // of an install on Debian's /usr; of all else
    for (int i = strcmp(folders[0], folders[1]) == 0; i < 2; i++) {
        prepend(L, "cpath", lua_pushfstring(L, "%s/%s/lua/5.1/?.so", tree->prefix, folders[i]));
        lua_pop(L, 1);
    }
}
