// cache.cpp - see cache.h. Nothing here is an error: what cannot be read or written is found out again.
#include "cache.h"
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cuda {

namespace {
bool make_folders(const std::string &path) {
    for (size_t at = 1; at != std::string::npos;) {
        at = path.find('/', at + 1);
        mkdir(path.substr(0, at).c_str(), 0755);
    }
    struct stat s;
    return stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}
}

std::string cache_folder() {
    const char *named = getenv("AIJIT_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    std::string path;
    if (named) path = named;
    else if (xdg && *xdg == '/') path = std::string(xdg) + "/aijit";
    else if (home && *home) path = std::string(home) + "/.cache/aijit";
    if (path.empty()) return path;
    path += "/cuda";
    return make_folders(path) ? path : std::string();
}

choices::choices(const std::string &file) {
    path = cache_folder();
    if (path.empty()) return;
    path += '/';
    for (unsigned char c : file) path += isalnum(c) || c == '.' ? (char)tolower(c) : '-';
    path += ".txt";
    FILE *f = fopen(path.c_str(), "r");
    if (!f) return;
    char line[1024];
    while (fgets(line, sizeof line, f)) {                // a line that another process is writing has no end yet
        std::string s = line;
        size_t tab = s.find('\t');
        if (tab != std::string::npos && s.back() == '\n') known[s.substr(0, tab)] = s.substr(tab + 1, s.size() - tab - 2);
    }
    fclose(f);
}

bool choices::find(const std::string &name, std::string *value) {
    std::lock_guard<std::mutex> guard(lock);
    auto i = known.find(name);
    if (i == known.end()) return false;
    *value = i->second;
    return true;
}

void choices::keep(const std::string &name, const std::string &value) {
    std::lock_guard<std::mutex> guard(lock);
    known[name] = value;
    if (path.empty()) return;
    int f = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (f < 0) return;
    std::string line = name + '\t' + value + '\n';       // one write: lines of several processes do not mix
    ssize_t n = write(f, line.data(), line.size());
    (void)n;
    close(f);
}

}
