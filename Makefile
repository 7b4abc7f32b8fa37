# arcbox-agent. `make help` lists what can be made.

include config.mk

.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL = all

ifeq ($(V),1)
Q =
say = @:
else
Q = @
say = @printf '  %-6s %s\n'
endif

# --- sources -------------------------------------------------------------------------------------

LIB_SRC = $(sort $(wildcard src/*/*.c)) src/start.c
AGENT_SRC = src/main.c
VM_AGENT_SRC = src/vm_agent.c
CTL_SRC = $(sort $(wildcard tools/arcboxctl/*.c))
BRIDGE_SRC = $(sort $(wildcard tools/vsock-bridge/*.c))
UNIT_SRC = $(sort $(wildcard tests/unit/test_*.c))
FUZZ_SRC = $(sort $(wildcard tests/fuzz/fuzz_*.c))
BENCH_SRC = $(sort $(wildcard tests/bench/*.c))

UNITS = $(UNIT_SRC:tests/unit/%.c=%)
FUZZERS = $(FUZZ_SRC:tests/fuzz/%.c=%)
BENCHES = $(BENCH_SRC:tests/bench/%.c=%)

# --- flags ---------------------------------------------------------------------------------------

WARN = -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
# -iquote, not -I: <sys/random.h> is the system's, "sys/random.h" is ours.
STD = -std=c11 -D_GNU_SOURCE -iquote include -DAGENT_VERSION='"$(VERSION)"'

# The shipped build: musl, static-pie. Debian's musl-gcc would link a dynamic PIE, so the start files
# are named here. Unwind tables are of no use to a program that never throws. The relocations are
# packed to a fiftieth, which src/start.c undoes; a linker that cannot says so, and nothing is lost.
MUSL_CFLAGS = -nostdinc -isystem $(MUSL_INC) -isystem $(shell $(CC) -print-file-name=include) \
    $(addprefix -idirafter ,$(UAPI_INC)) -fPIE -fno-asynchronous-unwind-tables -fno-unwind-tables \
    -ffunction-sections -fdata-sections -fstack-protector-strong
MUSL_LDFLAGS = -nostdlib -static-pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code \
    -Wl,-z,pack-relative-relocs,--wrap=__libc_start_main \
    -Wl,--no-dynamic-linker,--gc-sections,--build-id=none
MUSL_START = $(addprefix $(MUSL_LIB)/,rcrt1.o crti.o)
MUSL_END = $(MUSL_LIB)/libc.a $(shell $(CC) -print-libgcc-file-name) $(MUSL_LIB)/crtn.o

SAN = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

musl_CC = $(CC)
musl_FLAGS = $(CFLAGS) $(MUSL_CFLAGS)
san_CC = $(SAN_CC)
san_FLAGS = -O1 -g $(SAN)
cov_CC = gcc
cov_FLAGS = -O0 -g --coverage -Wl,-u,__gcov_dump
fuzz_CC = clang
fuzz_FLAGS = -O2 -g $(SAN) -fsanitize=fuzzer-no-link

# --- one set of rules for every variant of the build ------------------------------------------------

define variant
$(BUILD)/$1/%.o: %.c Makefile config.mk
	$$(say) CC '$1/$$*'
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$(STD) $$(WARN) $$($1_FLAGS) -MMD -MP -c -o $$@ $$<

$(BUILD)/$1/libagent.a: $$(LIB_SRC:%.c=$(BUILD)/$1/%.o)
	$$(say) AR $$@
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach v,musl san cov fuzz,$(eval $(call variant,$v)))

-include $(shell [ -d $(BUILD) ] && find $(BUILD) -name '*.d')

# The rest is built for size, but what every DNS query, frame and relayed byte goes through, for speed,
# where that can be measured.
HOT = src/base/cursor src/base/map src/codec/dns src/codec/frame src/codec/pb src/names/answer src/net/conn \
    src/rpc/server src/sys/loop $(BRIDGE_SRC:%.c=%)
$(HOT:%=$(BUILD)/musl/%.o): CFLAGS += -O2

# --- the programs --------------------------------------------------------------------------------

musl_link = $(Q)$(CC) $(MUSL_LDFLAGS) $(LDFLAGS) -o $@ $(MUSL_START) $(filter %.o,$^) $(filter %.a,$^) $(MUSL_END)

# The linked program keeps its symbols beside it for the debugger; what ships is stripped.
$(BUILD)/arcbox-agent.debug: $(AGENT_SRC:%.c=$(BUILD)/musl/%.o) $(BUILD)/musl/libagent.a
	$(say) LINK $@
	$(musl_link)

$(BUILD)/vm-agent.debug: $(VM_AGENT_SRC:%.c=$(BUILD)/musl/%.o) $(BUILD)/musl/libagent.a
	$(say) LINK $@
	$(musl_link)

$(BUILD)/arcboxctl.debug: $(CTL_SRC:%.c=$(BUILD)/musl/%.o) $(BUILD)/musl/libagent.a
	$(say) LINK $@
	$(musl_link)

$(BUILD)/vsock-bridge.debug: $(BRIDGE_SRC:%.c=$(BUILD)/musl/%.o) $(BUILD)/musl/libagent.a
	$(say) LINK $@
	$(musl_link)

$(BUILD)/arcbox-agent $(BUILD)/vm-agent $(BUILD)/arcboxctl $(BUILD)/vsock-bridge: %: %.debug
	$(say) STRIP $@
	$(Q)strip -s -R .comment -o $@ $<

$(BUILD)/san/arcbox-agent: $(AGENT_SRC:%.c=$(BUILD)/san/%.o) $(BUILD)/san/libagent.a
	$(say) LINK $@
	$(Q)$(san_CC) $(san_FLAGS) -o $@ $^

$(BUILD)/san/vm-agent: $(VM_AGENT_SRC:%.c=$(BUILD)/san/%.o) $(BUILD)/san/libagent.a
	$(say) LINK $@
	$(Q)$(san_CC) $(san_FLAGS) -o $@ $^

$(BUILD)/san/arcboxctl: $(CTL_SRC:%.c=$(BUILD)/san/%.o) $(BUILD)/san/libagent.a
	$(say) LINK $@
	$(Q)$(san_CC) $(san_FLAGS) -o $@ $^

$(BUILD)/san/vsock-bridge: $(BRIDGE_SRC:%.c=$(BUILD)/san/%.o) $(BUILD)/san/libagent.a
	$(say) LINK $@
	$(Q)$(san_CC) $(san_FLAGS) -o $@ $^

# --- tests ---------------------------------------------------------------------------------------

# Calls that a unit test can make fail: tests/unit/fault.c stands before the real ones.
FAULTS = malloc calloc realloc read write readv writev recvmsg sendmsg recvfrom sendto socket bind listen \
    connect accept4 epoll_create1 epoll_ctl epoll_wait timerfd_create timerfd_settime signalfd \
    pipe2 fork open openat close fstat mmap splice getsockopt setsockopt getsockname getrandom sendfile \
    memfd_create inotify_init1 inotify_add_watch waitpid execve ftruncate fsync rename \
    clock_settime
# Check's bookkeeping is wrapped so that its own calls are not taken for those under test, and the end
# of forked children so that they are in the coverage.
WRAP = $(FAULTS:%=-Wl,--wrap=%) -Wl,--wrap=_mark_point,--wrap=_ck_assert_failed,--wrap=_exit

UNIT_COMMON = tests/unit/main.c tests/unit/fault.c tests/unit/cases.c

# Some tests are of a part of vsock-bridge.
BRIDGE_CORE = guest_memory iov virtqueue
BRIDGE_TESTS = unit/test_guest_memory unit/test_virtqueue fuzz/fuzz_virtqueue

# Fuzz targets that turn a loop do so in memory: tests/fuzz/kernel.c stands before the real calls.
KERNEL_TESTS = $(addprefix fuzz/fuzz_,dhcp_client http remote rpc session)
KERNEL = read recv send sendto sendfile shutdown close socketpair socket connect getsockopt \
    epoll_create1 epoll_ctl epoll_wait eventfd timerfd_create timerfd_settime
kernel_wrap = $(if $(filter %/kernel.o,$^),$(KERNEL:%=-Wl,--wrap=%))

define unit
$(BUILD)/$1/unit/%: $(BUILD)/$1/tests/unit/%.o $(UNIT_COMMON:%.c=$(BUILD)/$1/%.o) $(BUILD)/$1/libagent.a
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$($1_FLAGS) $$(WRAP) -o $$@ $$^ -lcheck -lsubunit -lm -lrt -lpthread

$(BUILD)/$1/fuzz/%: $(BUILD)/$1/tests/fuzz/%.o $(BUILD)/$1/tests/fuzz/replay.o $(BUILD)/$1/libagent.a
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$($1_FLAGS) $$(kernel_wrap) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^)

$(addprefix $(BUILD)/$1/,$(BRIDGE_TESTS)): $(BRIDGE_CORE:%=$(BUILD)/$1/tools/vsock-bridge/%.o)
$(addprefix $(BUILD)/$1/,$(KERNEL_TESTS)): $(BUILD)/$1/tests/fuzz/kernel.o
endef
$(foreach v,san cov,$(eval $(call unit,$v)))

$(BUILD)/fuzz/fuzz_virtqueue: $(BRIDGE_CORE:%=$(BUILD)/fuzz/tools/vsock-bridge/%.o)
$(KERNEL_TESTS:%=$(BUILD)/%): $(BUILD)/fuzz/tests/fuzz/kernel.o

$(BUILD)/fuzz/%: $(BUILD)/fuzz/tests/fuzz/%.o $(BUILD)/fuzz/libagent.a
	$(say) LINK $@
	$(Q)clang $(fuzz_FLAGS) -fsanitize=fuzzer $(kernel_wrap) -o $@ $(filter %.o,$^) $(filter %.a,$^)

$(BUILD)/bench/load_vsock: $(BUILD)/musl/tools/vsock-bridge/packet.o

$(BUILD)/bench/%: $(BUILD)/musl/tests/bench/%.o $(BUILD)/musl/libagent.a
	$(say) LINK $@
	@mkdir -p $(@D)
	$(musl_link)

# What the tests start inside a virtual machine.
IN_GUEST = $(BUILD)/probe $(BUILD)/streams $(BUILD)/daemon

$(IN_GUEST): $(BUILD)/%: $(BUILD)/musl/tests/e2e/probe/%.o $(BUILD)/musl/libagent.a
	$(say) LINK $@
	$(musl_link)

# What stands in for a program that Debian does not have.
STAND_INS = $(BUILD)/k3s $(BUILD)/initrd

$(BUILD)/k3s: $(BUILD)/musl/tests/e2e/k3s/k3s.o $(BUILD)/musl/libagent.a
	$(say) LINK $@
	$(musl_link)

# What a sandbox's kernel does by itself, and Debian's leaves to an initramfs.
$(BUILD)/initrd: $(BUILD)/musl/tests/firecracker/initrd.o $(BUILD)/musl/libagent.a
	$(say) LINK $@
	$(musl_link)

# --- what can be asked for -----------------------------------------------------------------------

# Each of these gets what it needs first: tools/setup installs it, or says what to install.
setup-%:
	$(Q)tools/setup $(subst +, ,$*)

sub = $(Q)$(MAKE) --no-print-directory

UNIT_PROGRAMS = $(UNITS:%=$(BUILD)/san/unit/%) $(FUZZERS:%=$(BUILD)/san/fuzz/%)
SAN_PROGRAMS = $(BUILD)/san/arcbox-agent $(BUILD)/san/vm-agent $(BUILD)/san/arcboxctl $(BUILD)/san/vsock-bridge

all: setup-build
	$(sub) programs

programs: $(BUILD)/arcbox-agent $(BUILD)/vm-agent $(BUILD)/arcboxctl $(BUILD)/vsock-bridge

check: setup-build+unit
	$(sub) $(UNIT_PROGRAMS)
	$(Q)tests/run unit $(BUILD)/san

# The unit tests, and the end-to-end tests on what ships and under the sanitizers.
test: setup-build+unit+e2e
	$(sub) -j2 programs $(IN_GUEST) $(STAND_INS) $(SAN_PROGRAMS) $(UNIT_PROGRAMS)
	$(Q)tests/run all $(BUILD)

e2e: setup-build+e2e
	$(sub) programs $(IN_GUEST) $(STAND_INS)
	$(Q)tests/run e2e $(BUILD) $(ONLY)

lint: setup-build+lint
	$(sub) programs $(BUILD)/optdoc
	$(Q)tools/lint $(BUILD)

fuzz: setup-fuzz
	$(sub) $(FUZZERS:%=$(BUILD)/fuzz/%)
	$(Q)tests/fuzz/run $(BUILD)/fuzz $(FUZZ_S) $(FUZZ_JOBS)

coverage: setup-build+unit
	$(sub) -j2 $(UNITS:%=$(BUILD)/cov/unit/%)
	$(Q)tests/coverage $(BUILD)/cov

bench: setup-build+bench
	$(sub) programs $(BENCHES:%=$(BUILD)/bench/%)
	$(Q)tests/bench/run $(BUILD)

size: setup-build+bench
	$(sub) programs $(BENCHES:%=$(BUILD)/bench/%)
	$(Q)tests/bench/size $(BUILD)

demo: setup-build+demo
	$(sub) programs
	$(Q)tools/demo $(BUILD)

# A virtual machine with the agent as its only program, and arcboxctl on it.
vm: setup-build+vm
	$(sub) programs
	$(Q)tools/vm $(BUILD) $(VM)

# The same with a Docker engine in it.
vm-docker: setup-build+vm-docker
	$(sub) programs $(BUILD)/probe
	$(Q)tools/vm $(BUILD) --docker $(VM)

# README's option table and the manual's, from the rows of src/agent/option_rows.c.
docs: setup-build
	$(sub) $(BUILD)/optdoc
	$(Q)tools/docs $(BUILD)

$(BUILD)/optdoc: $(BUILD)/musl/tools/optdoc.o $(BUILD)/musl/libagent.a
	$(say) LINK $@
	$(musl_link)

install: programs docs
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man8
	install -m 755 $(BUILD)/arcbox-agent $(DESTDIR)$(SBINDIR)/arcbox-agent
	install -m 755 $(BUILD)/vm-agent $(DESTDIR)$(SBINDIR)/vm-agent
	install -m 755 $(BUILD)/arcboxctl $(DESTDIR)$(BINDIR)/arcboxctl
	install -m 755 $(BUILD)/vsock-bridge $(DESTDIR)$(BINDIR)/vsock-bridge
	install -m 644 tools/arcboxctl/arcboxctl.1 $(DESTDIR)$(MANDIR)/man1/arcboxctl.1
	install -m 644 tools/vsock-bridge/vsock-bridge.1 $(DESTDIR)$(MANDIR)/man1/vsock-bridge.1
	install -m 644 $(BUILD)/arcbox-agent.8 $(DESTDIR)$(MANDIR)/man8/arcbox-agent.8

clean:
	rm -rf $(BUILD)

help:
	@sed -n 's/^\([a-z0-9-]*\):.*$$/  make \1/p' Makefile | sort -u

.PHONY: all programs check test e2e lint fuzz coverage bench size demo vm vm-docker docs install clean help
.SECONDARY:
