/* A disk that can lose its power, and that can fail: what a process does to the files of one folder is written into a
 * journal, so that a test can tell what would be left of it at any moment, and a call can be made to fail.
 *
 *   cc -shared -fPIC -O1 -o disk.so disk.c -ldl ; LD_PRELOAD=disk.so POWER_FOLDER=/absolute/folder ...
 *
 * POWER_JOURNAL  file that the journal is appended to; without it none is written
 * POWER_VOID     with any value: fsync and fdatasync do nothing, and don't appear in the journal
 *
 * A record of the journal: kind (1 byte), number of the file (8), offset (8), length of the text (4), the text.
 *   W  written: offset, data          T  cut or grown to the offset      S  synced
 *   C  made: name                     R  renamed: old name, NUL, new one  U  removed: name
 *   D  the folder was synced          A  acknowledged: the text of power_note
 * Files have numbers of their own: those of inodes are given again. Syncs do not reach the disk: that is quicker.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static size_t folder_length;
static int journal = -1, is_void;
static long count, fail_at, fail_errno, fail_short, fail_on, failed;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_open)(const char *, int, ...);
static int (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_range)(int, off_t, off_t, unsigned int);

/* Numbers of files, by inode. */
#define MOST 65536
static struct { ino_t inode; uint64_t number; } files[MOST];
static size_t known;
static uint64_t last_number;

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_open = dlsym(RTLD_NEXT, "open64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_mkdir = dlsym(RTLD_NEXT, "mkdir");
    real_fallocate = dlsym(RTLD_NEXT, "fallocate64");
    real_range = dlsym(RTLD_NEXT, "sync_file_range");
    folder = getenv("POWER_FOLDER");
    folder_length = folder ? strlen(folder) : 0;
    is_void = getenv("POWER_VOID") != NULL;
    const char *path = getenv("POWER_JOURNAL");
    if (path) journal = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Where the path goes on behind the folder; NULL if it is elsewhere. */
static const char *inside(const char *path) {
    if (!folder || !path || strncmp(path, folder, folder_length)) return NULL;
    return path[folder_length] == '/' ? path + folder_length + 1 : path[folder_length] ? NULL : "";
}

static const char *path_of(int fd, char *path) {
    if (!folder) return NULL;
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return inside(path);
}

static uint64_t number_of(ino_t inode, int anew) {
    for (size_t at = 0; at < known; at++)
        if (files[at].inode == inode) {
            if (anew) files[at].number = ++last_number;
            return files[at].number;
        }
    if (known == MOST) abort();
    files[known].inode = inode;
    return files[known++].number = ++last_number;
}

static uint64_t file_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : number_of(found.st_ino, 0);
}

static void put(char kind, uint64_t file, uint64_t offset, const void *text, size_t length) {
    if (journal < 0) return;
    unsigned char head[21];
    uint32_t short_length = (uint32_t)length;
    head[0] = (unsigned char)kind;
    memcpy(head + 1, &file, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &short_length, 4);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)text, length}};
    if (writev(journal, parts, length ? 2 : 1) != (ssize_t)(sizeof head + length)) abort();
}

/* Whether the call that is made now is to fail. */
static int fails(void) {
    count++;
    if (!fail_at || (fail_on ? count < fail_at : count != fail_at)) return 0;
    failed++;
    return 1;
}

/* For the process: the so-many-th call from here on fails with an errno; with `part`, a write writes its half before;
 * with `on`, all calls after it fail too. 0: none does. Gives how many calls there were, or how many failed. */
long power_fail(long at, long with, long part, long on) {
    pthread_mutex_lock(&mutex);
    long before = count;
    count = failed = 0;
    fail_at = at, fail_errno = with, fail_short = part, fail_on = on;
    pthread_mutex_unlock(&mutex);
    return before;
}

long power_failed(void) { return failed; }

void power_folder(const char *path) {
    pthread_mutex_lock(&mutex);
    folder = strdup(path);
    folder_length = strlen(folder);
    pthread_mutex_unlock(&mutex);
}

void power_note(const char *text) {
    pthread_mutex_lock(&mutex);
    put('A', 0, 0, text, strlen(text));
    pthread_mutex_unlock(&mutex);
}

#define FAIL(result) do { pthread_mutex_unlock(&mutex); errno = (int)fail_errno; return (result); } while (0)

static ssize_t written(int fd, const void *data, size_t length, off_t offset) {
    int positioned = offset >= 0;
    pthread_mutex_lock(&mutex);
    int fail = fails();
    if (fail && (!fail_short || length < 2)) FAIL(-1);
    /* A short write is no error yet: the rest is. */
    if (fail) length /= 2;
    ssize_t done = positioned ? real_pwrite(fd, data, length, offset) : real_write(fd, data, length);
    int error = errno;
    if (done > 0) {
        off_t start = positioned ? offset : lseek(fd, 0, SEEK_CUR) - done;
        put('W', file_of(fd), (uint64_t)start, data, (size_t)done);
    }
    if (fail && fail_short) {
        if (fail_errno) fail_at = count + 1;
        fail_short = 0;
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t length) {
    char path[PATH_MAX];
    return path_of(fd, path) ? written(fd, data, length, -1) : real_write(fd, data, length);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    char path[PATH_MAX];
    return path_of(fd, path) ? written(fd, data, length, offset) : real_pwrite(fd, data, length, offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return pwrite64(fd, data, length, offset);
}

static int opened(const char *path, int flags, mode_t mode) {
    const char *name = inside(path);
    if (!name || !(flags & (O_CREAT | O_TRUNC))) return real_open(path, flags, mode);
    pthread_mutex_lock(&mutex);
    struct stat found;
    int is_new = stat(path, &found) != 0;
    if (fails()) FAIL(-1);
    int fd = real_open(path, flags, mode);
    int error = errno;
    if (fd >= 0 && !fstat(fd, &found)) {
        uint64_t file = number_of(found.st_ino, is_new);
        if (is_new) put('C', file, 0, name, strlen(name));
        else if (flags & O_TRUNC) put('T', file, 0, NULL, 0);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return fd;
}

#define MODE va_list rest; va_start(rest, flags); mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; va_end(rest)

int open64(const char *path, int flags, ...) { MODE; return opened(path, flags, mode); }
int open(const char *path, int flags, ...) { MODE; return opened(path, flags, mode); }

int openat64(int at, const char *path, int flags, ...) {
    MODE;
    if (path[0] == '/') return opened(path, flags, mode);
    int (*real)(int, const char *, int, ...) = dlsym(RTLD_NEXT, "openat64");
    return real(at, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) { MODE; return openat64(at, path, flags, mode); }

static int synced(int fd) {
    char path[PATH_MAX];
    const char *name = path_of(fd, path);
    if (!name) return 0;
    pthread_mutex_lock(&mutex);
    if (fails()) FAIL(-1);
    if (!is_void) put(*name ? 'S' : 'D', *name ? file_of(fd) : 0, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return 0;
}

int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

int sync_file_range(int fd, off_t offset, off_t length, unsigned int flags) {
    /* It asks for no durability. */
    return real_range(fd, offset, length, flags);
}

int ftruncate64(int fd, off_t length) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real_ftruncate(fd, length);
    pthread_mutex_lock(&mutex);
    if (fails()) FAIL(-1);
    int result = real_ftruncate(fd, length), error = errno;
    if (!result) put('T', file_of(fd), (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fallocate64(int fd, int mode, off_t offset, off_t length) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real_fallocate(fd, mode, offset, length);
    pthread_mutex_lock(&mutex);
    if (fails()) FAIL(-1);
    int result = real_fallocate(fd, mode, offset, length), error = errno;
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

int rename(const char *old, const char *new) {
    const char *from = inside(old), *to = inside(new);
    if (!from || !to) return real_rename(old, new);
    pthread_mutex_lock(&mutex);
    if (fails()) FAIL(-1);
    int result = real_rename(old, new), error = errno;
    if (!result) {
        char names[2 * PATH_MAX];
        size_t length = (size_t)snprintf(names, sizeof names, "%s%c%s", from, 0, to);
        put('R', 0, 0, names, length);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

int unlink(const char *path) {
    const char *name = inside(path);
    if (!name) return real_unlink(path);
    pthread_mutex_lock(&mutex);
    if (fails()) FAIL(-1);
    int result = real_unlink(path), error = errno;
    if (!result) put('U', 0, 0, name, strlen(name));
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = inside(path);
    if (!name) return real_mkdir(path, mode);
    pthread_mutex_lock(&mutex);
    if (fails()) FAIL(-1);
    int result = real_mkdir(path, mode), error = errno;
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}
