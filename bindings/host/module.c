// The module aijit.host: what the REPL and the subcommands need of the system and no Lua library gives.
// Under plain luajit it does not exist, and those modules do without.

#include "host.h"

#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include <histedit.h>
#include <lauxlib.h>

// ---- line editing, by libedit

static struct editor {
    EditLine *line;
    History *history;
    lua_State *L;               // during a call of readline; its stack: 1 the prompt, 2 the completer or nil
    volatile sig_atomic_t resized, continued;
    bool interrupted;           // Ctrl-C ended the line; libedit's own report of it differs from mode to mode
} editor;

static const char *prompt(EditLine *line)
{
    (void)line;
    return lua_tostring(editor.L, 1);
}

static void on_resize(int signal_number) { (void)signal_number; editor.resized = 1; }
static void on_continue(int signal_number) { (void)signal_number; editor.continued = 1; }

// Reads one character of UTF-8. libedit's own reader restarts after a signal, which would swallow Ctrl-C.
static int read_char(EditLine *line, wchar_t *out)
{
    char bytes[MB_LEN_MAX];
    size_t n = 0;
    while (n < sizeof bytes) {
        ssize_t got = read(STDIN_FILENO, bytes + n, 1);
        if (got == 0) return 0;
        if (got < 0) {
            if (errno != EINTR) return -1;
            if (interrupt_take()) {
                editor.interrupted = true;
                return -1;
            }
            if (editor.continued) el_set(line, EL_PREP_TERM, 1);
            if (editor.resized) {
                fputs("\r\033[K", stdout);
                el_resize(line);
            }
            if (editor.continued || editor.resized) el_set(line, EL_REFRESH);
            editor.continued = editor.resized = 0;
            continue;
        }
        n++;
        mbstate_t shift;
        memset(&shift, 0, sizeof shift);
        size_t length = mbrtowc(out, bytes, n, &shift);
        if (length == 0) *out = 0;
        if (length <= n) return 1;
        if (length == (size_t)-1) n = 0;                // not UTF-8: skipped
    }
    return -1;
}

// Tab: the completer gets the text left of the cursor and returns what to insert there, and what to show under the line.
static unsigned char complete(EditLine *line, int key)
{
    (void)key;
    lua_State *L = editor.L;
    if (lua_isnil(L, 2)) return CC_ERROR;
    const LineInfo *info = el_line(line);
    lua_pushvalue(L, 2);
    lua_pushlstring(L, info->buffer, (size_t)(info->cursor - info->buffer));
    unsigned char result = CC_ERROR;
    if (lua_pcall(L, 1, 2, 0) == 0) {
        const char *insert = lua_tostring(L, -2), *listing = lua_tostring(L, -1);
        if (insert && *insert && el_insertstr(line, insert) == 0) result = CC_REFRESH;
        if (listing) {
            printf("\n%s\n", listing);
            result = CC_REDISPLAY;
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return result;
}

static void open_editor(void)
{
    // For characters of several bytes, also where no locale is set; numbers keep their decimal point.
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
    HistEvent event;
    editor.history = history_init();
    editor.line = el_init("aijit", stdin, stdout, stderr);
    if (!editor.line || !editor.history) return;
    history(editor.history, &event, H_SETSIZE, 10000);
    history(editor.history, &event, H_SETUNIQUE, 1);
    el_set(editor.line, EL_SIGNAL, 0);
    el_set(editor.line, EL_EDITOR, "emacs");
    el_set(editor.line, EL_PROMPT_ESC, prompt, '\1');
    el_set(editor.line, EL_HIST, history, editor.history);
    el_set(editor.line, EL_GETCFN, read_char);
    el_set(editor.line, EL_ADDFN, "aijit-complete", "complete a Lua name", complete);
    el_set(editor.line, EL_BIND, "\t", "aijit-complete", NULL);
    el_set(editor.line, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(editor.line, EL_BIND, "\033[1;5C", "em-next-word", NULL);
    el_set(editor.line, EL_BIND, "\033[1;5D", "ed-prev-word", NULL);
    el_set(editor.line, EL_BIND, "\033[3~", "ed-delete-next-char", NULL);
    el_set(editor.line, EL_BIND, "\033[H", "ed-move-to-beg", NULL);
    el_set(editor.line, EL_BIND, "\033[F", "ed-move-to-end", NULL);
    el_source(editor.line, NULL);                       // the user's ~/.editrc
}

// readline(prompt, completer) -> line; nil, "interrupted" after Ctrl-C; nil, "eof" at the end of the input.
static int host_readline(lua_State *L)
{
    luaL_checkstring(L, 1);
    lua_settop(L, 2);
    if (!editor.line) open_editor();
    if (!editor.line) return luaL_error(L, "the terminal cannot be used");
    struct sigaction resize = {.sa_handler = on_resize}, resume = {.sa_handler = on_continue}, old_resize, old_resume;
    sigaction(SIGWINCH, &resize, &old_resize);
    sigaction(SIGCONT, &resume, &old_resume);
    editor.L = L;
    editor.interrupted = false;
    interrupt_take();
    int count = 0;
    const char *line = el_gets(editor.line, &count);
    sigaction(SIGWINCH, &old_resize, NULL);
    sigaction(SIGCONT, &old_resume, NULL);
    if (line && count > 0 && !editor.interrupted) {
        if (line[count - 1] == '\n') count--;
        lua_pushlstring(L, line, (size_t)count);
        return 1;
    }
    if (editor.interrupted) el_reset(editor.line);
    lua_pushnil(L);
    lua_pushstring(L, editor.interrupted ? "interrupted" : "eof");
    return 2;
}

// remember(line): the newest of the lines that the arrow keys and Ctrl-R find.
static int host_remember(lua_State *L)
{
    const char *line = luaL_checkstring(L, 1);
    if (!editor.line) open_editor();
    HistEvent event;
    if (editor.history) history(editor.history, &event, H_ENTER, line);
    return 0;
}

// ---- the terminal and the file system

static int host_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

static int host_width(lua_State *L)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    lua_pushinteger(L, known ? size.ws_col : 80);
    return 1;
}

// glob(pattern) -> sorted list of the files that match; folders end with "/".
static int host_glob(lua_State *L)
{
    glob_t found;
    lua_newtable(L);
    if (glob(luaL_checkstring(L, 1), GLOB_MARK | GLOB_TILDE, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            lua_pushstring(L, found.gl_pathv[i]);
            lua_rawseti(L, -2, (int)i + 1);
        }
    }
    globfree(&found);
    return 1;
}

// mkdir(path): makes the folder and those above it, for the user alone; true, or nil and the reason.
static int host_mkdir(lua_State *L)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s", luaL_checkstring(L, 1));
    int error = n >= (int)sizeof path ? ENAMETOOLONG : 0;
    for (char *p = path + 1; !error && n > 0; p++) {
        if (*p != '/' && *p != 0) continue;
        char kept = *p;
        *p = 0;
        if (mkdir(path, 0700) != 0 && errno != EEXIST) error = errno;
        *p = kept;
        if (!kept) break;
    }
    if (!error) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, strerror(error));
    return 2;
}

// clock() -> seconds of a clock that only moves forward.
static int host_clock(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    return 1;
}

// protect(f, handler) -> as xpcall. In a session only what runs below it is interrupted by Ctrl-C, so that no press can
// strike the session's own code.
static int host_protect(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_insert(L, 1);
    interrupt_listen(true);
    int failed = lua_pcall(L, 0, LUA_MULTRET, 1);
    interrupt_listen(false);
    lua_pushboolean(L, !failed);
    lua_replace(L, 1);
    return lua_gettop(L);
}

// session(on): the REPL runs, see interrupt_session.
static int host_session(lua_State *L)
{
    interrupt_session(lua_toboolean(L, 1));
    return 0;
}

// ---- the loaded libaijit.so

static void *library;

// attach(path): called when libaijit.so has been loaded from `path`, so that Ctrl-C reaches the core's long loops.
static int host_attach(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    if (!library) library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (library) {
        union { void *data; void (*code)(bool on); } symbol = {dlsym(library, "aj_interrupt")};
        interrupt_set_core(symbol.code);
    }
    lua_pushboolean(L, library != NULL);
    return 1;
}

// libraries() -> {onednn = "2.6.3", openblas = "OpenBLAS 0.3.21 ...", level = "v3"}: what the attached library is linked
// with, and which of its kernels it chose.
static int host_libraries(lua_State *L)
{
    lua_newtable(L);
    if (!library) return 1;
    struct dnnl_version { int major, minor, patch; };           // the first fields of oneDNN's dnnl_version_t
    union { void *data; const struct dnnl_version *(*code)(void); } onednn = {dlsym(library, "dnnl_version")};
    if (onednn.data) {
        const struct dnnl_version *version = onednn.code();
        lua_pushfstring(L, "%d.%d.%d", version->major, version->minor, version->patch);
        lua_setfield(L, -2, "onednn");
    }
    union { void *data; char *(*code)(void); } openblas = {dlsym(library, "openblas_get_config")};
    if (openblas.data) {
        lua_pushstring(L, openblas.code());
        lua_setfield(L, -2, "openblas");
    }
    union { void *data; const char *(*code)(void); } level = {dlsym(library, "aj_cpu_level")};
    if (level.data) {
        lua_pushstring(L, level.code());
        lua_setfield(L, -2, "level");
    }
    return 1;
}

static int open_module(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"readline", host_readline}, {"remember", host_remember}, {"isatty", host_isatty}, {"width", host_width},
        {"glob", host_glob}, {"mkdir", host_mkdir}, {"clock", host_clock}, {"session", host_session}, {"protect", host_protect},
        {"attach", host_attach}, {"libraries", host_libraries}, {NULL, NULL},
    };
    const struct tree *tree = lua_touserdata(L, lua_upvalueindex(1));
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_pushstring(L, tree->exe);
    lua_setfield(L, -2, "exe");
    lua_pushstring(L, tree->dir);
    lua_setfield(L, -2, "dir");
    lua_pushliteral(L, AIJIT_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}

void module_preload(lua_State *L, const struct tree *tree)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushlightuserdata(L, (void *)(uintptr_t)tree);
    lua_pushcclosure(L, open_module, 1);
    lua_setfield(L, -2, "aijit.host");
    lua_pop(L, 2);
}
