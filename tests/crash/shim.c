/* Stands between a process and the C library at every call that changes what is below one folder: to count them, or to let
 * one go wrong. Preloaded by tests/crash/process.py, which arms it in a child just before the child goes to work. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, KILL, FAIL, FULL, TORN };
enum { HUNGRY = 8 }; /* calls that find a full disk before somebody makes room */

static char root[PATH_MAX], struck[64];
static size_t root_length;
static long strike_at = -1;
static enum mode mode;
static atomic_long seen, hungry;

void shim_arm(const char *folder, long number, int what)
{
    root_length = (size_t)snprintf(root, sizeof root, "%s/", folder);
    strike_at = number, mode = (enum mode)what, struck[0] = 0;
    atomic_store(&seen, 0), atomic_store(&hungry, 0);
}
void shim_disarm(void) { root_length = 0; }
long shim_seen(void) { return atomic_load(&seen); }
const char *shim_struck(void) { return struck; }

static int below(const char *path)
{
    return strncmp(path, root, root_length) == 0 || (strlen(path) == root_length - 1 && strncmp(path, root, root_length - 1) == 0);
}
static int fd_below(int fd)
{
    char link[40], target[PATH_MAX];
    if (!root_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return below(target);
}
static int at_below(int folder, const char *path)
{
    if (!root_length || !path) return 0;
    if (path[0] == '/') return below(path);
    if (folder != AT_FDCWD) return fd_below(folder);
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && below(here);
}

/* What is to happen to this call: 0 to do it, 1 to do it in part or whole and die, -1 to fail with errno. */
static int fate(const char *name, int takes_space)
{
    long number = atomic_fetch_add(&seen, 1);
    if (number == strike_at) {
        snprintf(struck, sizeof struck, "%s", name);
        if (mode == KILL) kill(getpid(), SIGKILL);
        if (mode == TORN) return 1;
        if (mode == FULL) atomic_store(&hungry, HUNGRY);
        if (mode == FAIL || mode == FULL) { errno = mode == FAIL ? EIO : ENOSPC; return -1; }
    } else if (takes_space && atomic_load(&hungry) > 0) {
        atomic_fetch_sub(&hungry, 1);
        errno = ENOSPC;
        return -1;
    }
    return 0;
}
static void die(void) { kill(getpid(), SIGKILL); }

#define REAL(name) ({ static __typeof__(&name) real_; if (!real_) real_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real_; })
#define GUARDED(concerned, name, space, call)                                         \
    if (!(concerned)) return call;                                                    \
    int fate_ = fate(name, space);                                                    \
    if (fate_ < 0) return -1;                                                         \
    __typeof__(call) result_ = call;                                                  \
    if (fate_ > 0) die();                                                             \
    return result_;

static int changes(int flags) { return flags & (O_CREAT | O_TRUNC); }
#define OPENING(name)                                                                 \
    int name(const char *path, int flags, ...)                                        \
    {                                                                                 \
        va_list list; va_start(list, flags); mode_t bits = va_arg(list, mode_t); va_end(list); \
        GUARDED(changes(flags) && at_below(AT_FDCWD, path), "open", 1, REAL(name)(path, flags, bits)) \
    }
OPENING(open)
OPENING(open64)
#define OPENING_AT(name)                                                              \
    int name(int folder, const char *path, int flags, ...)                            \
    {                                                                                 \
        va_list list; va_start(list, flags); mode_t bits = va_arg(list, mode_t); va_end(list); \
        GUARDED(changes(flags) && at_below(folder, path), "open", 1, REAL(name)(folder, path, flags, bits)) \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

/* A write that fails or tears may have written half. */
ssize_t write(int fd, const void *data, size_t size)
{
    if (!fd_below(fd)) return REAL(write)(fd, data, size);
    int what = fate("write", 1);
    if (what && (what > 0 || errno == EIO)) {
        int kept = errno;
        (void)!REAL(write)(fd, data, size / 2);
        errno = kept;
    }
    if (what > 0) die();
    return what ? -1 : REAL(write)(fd, data, size);
}
#define PWRITING(name, offset_type)                                                   \
    ssize_t name(int fd, const void *data, size_t size, offset_type at)               \
    {                                                                                 \
        if (!fd_below(fd)) return REAL(name)(fd, data, size, at);                     \
        int what = fate("pwrite", 1);                                                 \
        if (what && (what > 0 || errno == EIO)) {                                     \
            int kept = errno;                                                         \
            (void)!REAL(name)(fd, data, size / 2, at);                                \
            errno = kept;                                                             \
        }                                                                             \
        if (what > 0) die();                                                          \
        return what ? -1 : REAL(name)(fd, data, size, at);                            \
    }
PWRITING(pwrite, off_t)
PWRITING(pwrite64, off64_t)
ssize_t writev(int fd, const struct iovec *parts, int count) { GUARDED(fd_below(fd), "writev", 1, REAL(writev)(fd, parts, count)) }
ssize_t sendfile(int out, int in, off_t *at, size_t size) { GUARDED(fd_below(out), "sendfile", 1, REAL(sendfile)(out, in, at, size)) }
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) { GUARDED(fd_below(out), "sendfile", 1, REAL(sendfile64)(out, in, at, size)) }
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *at, size_t size, unsigned flags)
{ GUARDED(fd_below(out), "copy_file_range", 1, REAL(copy_file_range)(in, from, out, at, size, flags)) }

int fsync(int fd) { GUARDED(fd_below(fd), "fsync", 0, REAL(fsync)(fd)) }
int fdatasync(int fd) { GUARDED(fd_below(fd), "fdatasync", 0, REAL(fdatasync)(fd)) }
int ftruncate(int fd, off_t size) { GUARDED(fd_below(fd), "ftruncate", 0, REAL(ftruncate)(fd, size)) }
int ftruncate64(int fd, off64_t size) { GUARDED(fd_below(fd), "ftruncate", 0, REAL(ftruncate64)(fd, size)) }
int fchmod(int fd, mode_t bits) { GUARDED(fd_below(fd), "fchmod", 0, REAL(fchmod)(fd, bits)) }
int chmod(const char *path, mode_t bits) { GUARDED(at_below(AT_FDCWD, path), "chmod", 0, REAL(chmod)(path, bits)) }
int fchmodat(int folder, const char *path, mode_t bits, int flags)
{ GUARDED(at_below(folder, path), "chmod", 0, REAL(fchmodat)(folder, path, bits, flags)) }
int rename(const char *from, const char *to) { GUARDED(at_below(AT_FDCWD, to), "rename", 0, REAL(rename)(from, to)) }
int renameat(int one, const char *from, int other, const char *to)
{ GUARDED(at_below(other, to), "rename", 0, REAL(renameat)(one, from, other, to)) }
int renameat2(int one, const char *from, int other, const char *to, unsigned flags)
{ GUARDED(at_below(other, to), "rename", 0, REAL(renameat2)(one, from, other, to, flags)) }
int link(const char *from, const char *to) { GUARDED(at_below(AT_FDCWD, to), "link", 1, REAL(link)(from, to)) }
int linkat(int one, const char *from, int other, const char *to, int flags)
{ GUARDED(at_below(other, to), "link", 1, REAL(linkat)(one, from, other, to, flags)) }
int symlink(const char *target, const char *path) { GUARDED(at_below(AT_FDCWD, path), "symlink", 1, REAL(symlink)(target, path)) }
int symlinkat(const char *target, int folder, const char *path)
{ GUARDED(at_below(folder, path), "symlink", 1, REAL(symlinkat)(target, folder, path)) }
int unlink(const char *path) { GUARDED(at_below(AT_FDCWD, path), "unlink", 0, REAL(unlink)(path)) }
int unlinkat(int folder, const char *path, int flags) { GUARDED(at_below(folder, path), "unlink", 0, REAL(unlinkat)(folder, path, flags)) }
int rmdir(const char *path) { GUARDED(at_below(AT_FDCWD, path), "rmdir", 0, REAL(rmdir)(path)) }
int mkdir(const char *path, mode_t bits) { GUARDED(at_below(AT_FDCWD, path), "mkdir", 1, REAL(mkdir)(path, bits)) }
int mkdirat(int folder, const char *path, mode_t bits) { GUARDED(at_below(folder, path), "mkdir", 1, REAL(mkdirat)(folder, path, bits)) }
