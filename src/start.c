/* What comes before main in the build with musl: two things that musl's start file leaves undone in
 * a static program that may lie anywhere.
 *
 * The linker packs its relative relocations (DT_RELR of the generic ELF ABI: a word for up to 63 of
 * them, in place of three words for each), but musl applies such since 1.2.4 only. And to protect
 * what is constant from then on (PT_GNU_RELRO) is up to the program.
 *
 * By ld's --wrap the start file calls __wrap___libc_start_main(), which goes on to musl's own. */
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef DT_RELR
#define DT_RELRSZ 35 /* as musl's elf.h before 1.2.4 does not know */
#define DT_RELR   36
#endif

typedef int main_fn(int argc, char **argv, char **envp);
typedef void init_fn(void);

main_fn main;
int __real___libc_start_main(
    main_fn *start, int argc, char **argv, init_fn *init, init_fn *fini, init_fn *ldso);
int __wrap___libc_start_main(
    main_fn *start, int argc, char **argv, init_fn *init, init_fn *fini, init_fn *ldso);

/* Of the linker; the program is linked for address 0. */
#define OF_LINKER extern __attribute__((visibility("hidden")))
OF_LINKER ElfW(Dyn) _DYNAMIC[];
OF_LINKER const ElfW(Ehdr) __ehdr_start;

/* Until the relocations are applied nothing may use a pointer in static data, and until libc was
 * here not the thread's storage, where the stack protector's word is. */
#define EARLY __attribute__((no_stack_protector))

static uintptr_t base(void)
{
	return (uintptr_t)&__ehdr_start;
}

/* An even word is the address of a relocation. The bits of an odd one, but for the lowest, say
 * which of the words that follow the last one are relocations, too. */
EARLY static void apply(const uintptr_t *word, size_t n)
{
	enum { BITS = 8 * sizeof *word - 1 };
	uintptr_t *next = NULL;

	for (; n > 0; n--, word++) {
		if (*word & 1) {
			for (size_t i = 0; i < BITS; i++)
				if (*word >> (i + 1) & 1)
					next[i] += base();
			next += BITS;
		} else {
			next = (uintptr_t *)(base() + *word);
			*next++ += base();
		}
	}
}

EARLY static void relocate(void)
{
	/* Says where it lies itself, once the relocations are applied. */
	static const void *const volatile self = (const void *)&self;
	const uintptr_t *words = NULL;
	size_t bytes = 0;

	if (self == (const void *)&self)
		return;
	for (const ElfW(Dyn) *d = _DYNAMIC; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_RELR)
			words = (const uintptr_t *)(base() + d->d_un.d_ptr);
		else if (d->d_tag == DT_RELRSZ)
			bytes = d->d_un.d_val;
	}
	apply(words, bytes / sizeof *words);
}

/* Makes what is constant now read-only, in whole pages. */
static void protect(void)
{
	const ElfW(Phdr) *segment = (const ElfW(Phdr) *)(base() + __ehdr_start.e_phoff);
	uintptr_t page = (uintptr_t)getpagesize();

	for (size_t i = 0; i < __ehdr_start.e_phnum; i++, segment++) {
		uintptr_t from = (base() + segment->p_vaddr) & -page;
		uintptr_t to = (base() + segment->p_vaddr + segment->p_memsz) & -page;

		if (segment->p_type == PT_GNU_RELRO)
			mprotect((void *)from, to - from, PROT_READ);
	}
}

static int protected_main(int argc, char **argv, char **envp)
{
	protect();
	return main(argc, argv, envp);
}

EARLY int __wrap___libc_start_main(
    main_fn *start, int argc, char **argv, init_fn *init, init_fn *fini, init_fn *ldso)
{
	(void)start; /* may not be relocated yet */
	relocate();
	return __real___libc_start_main(protected_main, argc, argv, init, fini, ldso);
}
