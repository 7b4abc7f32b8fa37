# What a packager changes. Everything here can also be given to make: make CC=clang PREFIX=/usr

VERSION = 0.1.0

# gcc or clang; both are tested.
CC = gcc
# -Oz, which gcc 12 and clang know, is 2 % smaller than -Os.
CFLAGS = -Oz -g
LDFLAGS =

# Where the objects and programs go.
BUILD = build

PREFIX = /usr/local
BINDIR = $(PREFIX)/bin
SBINDIR = $(PREFIX)/sbin
MANDIR = $(PREFIX)/share/man
DESTDIR =

# musl's headers, start files and libc.a (Debian: musl-dev). The kernel's headers are looked up last.
MUSL_INC = /usr/include/$(shell uname -m)-linux-musl
MUSL_LIB = /usr/lib/$(shell uname -m)-linux-musl
UAPI_INC = /usr/include /usr/include/$(shell uname -m)-linux-gnu

# The compiler of the sanitizer and fuzzer builds (they run on the host's libc).
SAN_CC = clang

# Seconds that `make fuzz` gives to each target, and how many targets run at once.
FUZZ_S = 60
FUZZ_JOBS = 2
