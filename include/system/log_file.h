/* log_file.h - the log's file. It lies where the host shares a directory, whose server may hang, so
 * a process of its own opens and writes it: lines reach that through a pipe, and when it is full
 * they are lost (and counted, see log.h). */
#ifndef SYSTEM_LOG_FILE_H
#define SYSTEM_LOG_FILE_H

#include <stdbool.h>

/* The pipe's end for log_sinks(); the file's directory is made when the one that it stands in
 * exists. To be closed by the caller: the rest is written then, and the file closed. -ENOENT when
 * there is no such place, or -errno. */
int log_file_open(const char *path);

/* Whether somebody still takes the lines: false once the file could not be opened. */
bool log_file_is_open(int fd);

#endif
