#include "codec/disk.h"

#include "cases.h"
#include "suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A device of which only the pieces are there, as zeroes but for what is put on it. */
static uint8_t head[DISK_HEAD_BYTES], copy[DISK_COPY_BYTES], tail[DISK_TAIL_BYTES];
static struct disk disk;

#define GIB (UINT64_C(1) << 30)

static void blank(uint64_t size_bytes)
{
	memset(head, 0, sizeof head);
	memset(copy, 0, sizeof copy);
	memset(tail, 0, sizeof tail);
	disk = (struct disk){size_bytes, span_first(span_of(head, sizeof head), size_bytes),
	    span_of(copy, size_bytes > DISK_COPY_AT ? sizeof copy : 0),
	    span_first(span_of(tail, sizeof tail), size_bytes)};
}

static void put(uint64_t at, struct span bytes)
{
	uint64_t tail_at = disk.size_bytes - disk.tail.n;

	for (size_t i = 0; i < bytes.n; i++, at++) {
		if (at < disk.head.n)
			head[at] = bytes.p[i];
		if (at >= DISK_COPY_AT && at - DISK_COPY_AT < disk.copy.n)
			copy[at - DISK_COPY_AT] = bytes.p[i];
		if (at >= tail_at && at - tail_at < disk.tail.n)
			tail[at - tail_at] = bytes.p[i];
	}
}

static void check_is(enum disk_kind kind, const char *what)
{
	const char *got = NULL;

	ck_assert_int_eq(disk_identify(&disk, &got), kind);
	ck_assert_str_eq(got, what);
}

static void check_unknown(void)
{
	check_is(DISK_UNKNOWN, "nothing known");
}

START_TEST(blank_devices)
{
	static const uint64_t sizes[] = {
	    0, 1, 511, 512, 4095, 4096, 65536, 66000, 1 << 20, 64 << 20, GIB, UINT64_MAX};

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		blank(sizes[i]);
		check_unknown();
	}
}
END_TEST

START_TEST(what_has_no_name)
{
	blank(GIB);
	memset(head, 0xff, sizeof head);
	memset(tail, 0xff, sizeof tail);
	check_unknown();
	memset(head, 'x', sizeof head);
	check_unknown();
}
END_TEST

/* --- Btrfs ---------------------------------------------------------------------------------- */

static const struct span btrfs = SPAN_LIT("_BHRfS_M"), unfinished = SPAN_LIT("!BHRfS_M");

START_TEST(btrfs_is_btrfs)
{
	blank(GIB);
	put(0x10040, btrfs);
	check_is(DISK_BTRFS, "a Btrfs filesystem");
	/* Whatever else is left there from earlier times. */
	put(510, (struct span)SPAN_LIT("\x55\xaa"));
	put(0x438, (struct span)SPAN_LIT("\x53\xef"));
	put(GIB - 512, (struct span)SPAN_LIT("EFI PART"));
	check_is(DISK_BTRFS, "a Btrfs filesystem");
	for (size_t i = 0; i < btrfs.n; i++) {
		blank(GIB);
		put(0x10040, btrfs);
		head[0x10040 + i] ^= 1;
		check_unknown();
	}
}
END_TEST

START_TEST(btrfs_that_is_damaged)
{
	blank(GIB);
	put(DISK_COPY_AT + 0x40, btrfs);
	check_is(DISK_FOREIGN, "a damaged Btrfs filesystem");
	put(0x10040, btrfs);
	check_is(DISK_BTRFS, "a Btrfs filesystem");
}
END_TEST

START_TEST(btrfs_whose_making_was_cut_off)
{
	blank(GIB);
	put(0x10040, unfinished);
	check_unknown();
	put(DISK_COPY_AT + 0x40, unfinished);
	check_unknown();
	put(DISK_COPY_AT + 0x40, btrfs); /* the writes are not in order */
	check_unknown();
	put(0, (struct span)SPAN_LIT("LUKS\xba\xbe"));
	check_is(DISK_FOREIGN, "a LUKS volume");
}
END_TEST

/* --- signatures ----------------------------------------------------------------------------- */

#define ODD_BYTES (GIB + 12345 * 512) /* 1080062464 */

/* On devices of ODD_BYTES; the numbers are what the formats' own programs would write to. */
static const struct {
	const char *what;
	uint64_t at;
	struct span bytes;
} signatures[] = {
    {"a LUKS volume", 0, SPAN_LIT("LUKS\xba\xbe")},
    {"a LUKS volume", 16384, SPAN_LIT("SKUL\xba\xbe")},
    {"a LUKS volume", 4 << 20, SPAN_LIT("SKUL\xba\xbe")},
    {"a BitLocker volume", 3, SPAN_LIT("-FVE-FS-")},
    {"a BitLocker volume", 424, SPAN_LIT("\x3b\xd6gI).\xd8J\x83\x99\xf6\xa3\x39\xe3\xd0\x01")},
    {"an LVM physical volume", 24, SPAN_LIT("LVM2 001")},
    {"an LVM physical volume", 512 + 24, SPAN_LIT("LVM2 001")},
    {"an LVM physical volume", 3 * 512 + 24, SPAN_LIT("LVM2 001")},
    {"an LVM physical volume", 0, SPAN_LIT("HM\x01\0")},
    {"a member of a Linux RAID array", 0, SPAN_LIT("\xfc\x4e\x2b\xa9\x01\0\0\0")},
    {"a member of a Linux RAID array", 4096, SPAN_LIT("\xfc\x4e\x2b\xa9\x01\0\0\0")},
    {"a member of a Linux RAID array", 1080053760, SPAN_LIT("\xfc\x4e\x2b\xa9\x01\0\0\0")},
    {"a member of a Linux RAID array", 1079967744, SPAN_LIT("\xfc\x4e\x2b\xa9")},
    {"a member of a Linux RAID array", 1079967744, SPAN_LIT("\xa9\x2b\x4e\xfc")},
    {"a member of a DDF array", ODD_BYTES - 512, SPAN_LIT("\xde\x11\xde\x11")},
    {"a member of an Intel array", ODD_BYTES - 1024, SPAN_LIT("Intel Raid ISM Cfg Sig. 1.3.00")},
    {"a member of a ZFS pool", 16 << 10, SPAN_LIT("\1\1\0\0\0\0\0\0\0\0\0\1")},
    {"a member of a ZFS pool", (256 + 16) << 10, SPAN_LIT("\1\0\0\0\0\0\0\0\0\0\0\1")},
    {"a member of a ZFS pool", 1079508992 + (16 << 10), SPAN_LIT("\1\1\0\0\0\0\0\0\0\0\0\1")},
    {"a bcachefs filesystem", 4096 + 24,
	SPAN_LIT("\xc6\x85s\xf6\x66\xce\x90\xa9\xd9j`\xcf\x80=\xf7\xef")},
    {"a bcachefs filesystem", (2 << 20) + 24,
	SPAN_LIT("\xc6\x85s\xf6\x66\xce\x90\xa9\xd9j`\xcf\x80=\xf7\xef")},
    {"a bcachefs filesystem", ODD_BYTES - (1 << 20) + 24,
	SPAN_LIT("\xc6\x85s\xf6\x66\xce\x90\xa9\xd9j`\xcf\x80=\xf7\xef")},
    {"a bcache device", 4096 + 24,
	SPAN_LIT("\xc6\x85s\xf6N\x1a\x45\xca\x82\x65\xf5\x7fH\xbam\x81")},
    {"a dm-verity hash device", 0, SPAN_LIT("verity\0\0\1\0\0\0")},
    {"a dm-integrity device", 0, SPAN_LIT("integrt\0\5")},
    {"a VDO device", 0, SPAN_LIT("dmvdo001")},
    {"a member of a Stratis pool", 516, SPAN_LIT("!Stra0tis\x86\xff\x02^\x41rh")},
    {"a member of a Stratis pool", 4612, SPAN_LIT("!Stra0tis\x86\xff\x02^\x41rh")},
    {"a Ceph BlueStore device", 0, SPAN_LIT("bluestore block device\n")},
    {"an Oracle ASM disk", 32, SPAN_LIT("ORCLDISK")},
    {"an XFS filesystem", 0, SPAN_LIT("XFSB\0\0\x10\0")},
    {"an F2FS filesystem", 1024, SPAN_LIT("\x10\x20\xf5\xf2\1\0")},
    {"an F2FS filesystem", 5120, SPAN_LIT("\x10\x20\xf5\xf2\1\0")},
    {"an EROFS filesystem", 1024, SPAN_LIT("\xe2\xe1\xf5\xe0")},
    {"a SquashFS filesystem", 0, SPAN_LIT("hsqs")},
    {"a SquashFS filesystem", 0, SPAN_LIT("sqsh")},
    {"a cramfs filesystem", 0, SPAN_LIT("\x45\x3d\xcd\x28")},
    {"a romfs filesystem", 0, SPAN_LIT("-rom1fs-")},
    {"a BFS filesystem", 0, SPAN_LIT("\xce\xfa\xad\x1b")},
    {"a JFS filesystem", 32768, SPAN_LIT("JFS1\1\0\0\0")},
    {"a ReiserFS filesystem", 65536 + 52, SPAN_LIT("ReIsErFs")},
    {"a ReiserFS filesystem", 65536 + 52, SPAN_LIT("ReIsEr2Fs")},
    {"a ReiserFS filesystem", 65536 + 52, SPAN_LIT("ReIsEr3Fs")},
    {"a ReiserFS filesystem", 8192 + 52, SPAN_LIT("ReIsErFs")},
    {"a ReiserFS filesystem", 8192 + 20, SPAN_LIT("ReIsErFs")},
    {"a ReiserFS filesystem", 65536, SPAN_LIT("ReIsEr4")},
    {"a NILFS2 filesystem", 1024, SPAN_LIT("\2\0\0\0\0\0\x34\x34")},
    {"a NILFS2 filesystem", 1080057856, SPAN_LIT("\2\0\0\0\0\0\x34\x34")},
    {"an OCFS2 filesystem", 8192, SPAN_LIT("OCFSV2")},
    {"a GFS2 filesystem", 65536, SPAN_LIT("\1\x16\x19\x70\0\0\0\1")},
    {"an APFS container", 32, SPAN_LIT("NXSB")},
    {"an HFS filesystem", 1024, SPAN_LIT("H+\0\4")},
    {"an HFS filesystem", 1024, SPAN_LIT("HX\0\5")},
    {"an HFS filesystem", 1024, SPAN_LIT("BD")},
    {"a UFS filesystem", 65536 + 1372, SPAN_LIT("\x19\x01\x54\x19")},
    {"a UFS filesystem", 8192 + 1372, SPAN_LIT("\x54\x19\x01\x00")},
    {"a VMFS volume", 1 << 20, SPAN_LIT("\x0d\xd0\x01\xc0")},
    {"a VMFS volume", 2 << 20, SPAN_LIT("\x5e\xf1\xab\x2f")},
    {"swap space", 4086, SPAN_LIT("SWAPSPACE2")},
    {"swap space", 16384 - 10, SPAN_LIT("SWAPSPACE2")},
    {"swap space", 65536 - 10, SPAN_LIT("SWAP-SPACE")},
    {"a hibernated system", 4086, SPAN_LIT("S1SUSPEND")},
    {"a hibernated system", 4086, SPAN_LIT("ULSUSPEND")},
    {"a hibernated system", 4086, SPAN_LIT("LINHIB0001")},
    {"an ISO 9660 filesystem", 32768, SPAN_LIT("\1CD001\1")},
    {"an ISO 9660 filesystem", 32768 + 8, SPAN_LIT("\1CDROM\1")},
    {"a UDF filesystem", 32768, SPAN_LIT("\0BEA01\1")},
    {"a UDF filesystem", 32768 + 2048, SPAN_LIT("\0NSR03\1")},
    {"an NTFS filesystem", 0, SPAN_LIT("\xeb\x52\x90NTFS    ")},
    {"a ReFS filesystem", 0, SPAN_LIT("\0\0\0ReFS\0")},
    {"an exFAT filesystem", 0, SPAN_LIT("\xeb\x76\x90\x45XFAT   ")},
    {"a FAT filesystem", 54, SPAN_LIT("FAT12   ")},
    {"a FAT filesystem", 54, SPAN_LIT("FAT16   ")},
    {"a FAT filesystem", 82, SPAN_LIT("FAT32   ")},
    {"an ext2, ext3 or ext4 filesystem", 1080, SPAN_LIT("\x53\xef")},
    {"a MINIX filesystem", 1040, SPAN_LIT("\x8f\x13")},
    {"a MINIX filesystem", 1048, SPAN_LIT("\x5a\x4d")},
    {"a GPT partition table", 512, SPAN_LIT("EFI PART")},
    {"a GPT partition table", 4096, SPAN_LIT("EFI PART")},
    {"a GPT partition table", ODD_BYTES - 512, SPAN_LIT("EFI PART")},
    {"a GPT partition table", 1080057856, SPAN_LIT("EFI PART")},
    {"an SGI partition table", 0, SPAN_LIT("\x0b\xe5\xa9\x41")},
    {"a Sun partition table", 508, SPAN_LIT("\xda\xbe")},
    {"an Apple partition table", 512, SPAN_LIT("PM\0\0")},
    {"a BSD disk label", 512, SPAN_LIT("\x57\x45\x56\x82")},
};

START_TEST(each_is_known)
{
	for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
		blank(ODD_BYTES);
		put(signatures[i].at, signatures[i].bytes);
		check_is(DISK_FOREIGN, signatures[i].what);
		/* Also when what comes first on a disk is there, too, and on a damaged Btrfs. */
		put(510, (struct span)SPAN_LIT("\x55\xaa"));
		put(DISK_COPY_AT + 0x40, btrfs);
		check_is(DISK_FOREIGN, signatures[i].what);
	}
}
END_TEST

/* The device ends with the signature, or in the middle of it: nothing is read beyond. */
START_TEST(each_is_known_at_the_very_end)
{
	for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
		struct guard g, none;
		const char *what;

		if (signatures[i].at > DISK_HEAD_BYTES)
			continue;
		blank(ODD_BYTES);
		put(signatures[i].at, signatures[i].bytes);
		g = guard_copy(span_first(disk.head, signatures[i].at + signatures[i].bytes.n));
		none = guard_copy(span_of(NULL, 0));
		disk = (struct disk){g.s.n, g.s, none.s, none.s};
		check_is(DISK_FOREIGN, signatures[i].what);
		disk.head.n = disk.size_bytes = signatures[i].at + 1;
		ck_assert_int_eq(disk_identify(&disk, &what), DISK_UNKNOWN);
		guard_free(&g);
		guard_free(&none);
	}
}
END_TEST

START_TEST(one_at_the_end_is_read_in_the_tail_only)
{
	struct guard g;

	blank(ODD_BYTES);
	put(ODD_BYTES - 512, (struct span)SPAN_LIT("EFI PART"));
	g = guard_copy(span_from(disk.tail, disk.tail.n - 512));
	disk.tail = g.s;
	check_is(DISK_FOREIGN, "a GPT partition table");
	disk.size_bytes++; /* the last block is not a whole one */
	check_unknown();
	guard_free(&g);
}
END_TEST

/* --- boot sectors --------------------------------------------------------------------------- */

START_TEST(partition_tables)
{
	blank(GIB);
	put(510, (struct span)SPAN_LIT("\x55\xaa"));
	check_is(DISK_FOREIGN, "an empty MBR partition table or a boot sector");
	head[446 + 16 + 4] = 0x83;
	check_is(DISK_FOREIGN, "an MBR partition table");
	head[446] = 0x80;
	check_is(DISK_FOREIGN, "an MBR partition table");
	head[446] = 0x33; /* code */
	check_is(DISK_FOREIGN, "a boot sector");
	head[446] = 0;
	put(512, (struct span)SPAN_LIT("EFI PART")); /* the other one protects it */
	check_is(DISK_FOREIGN, "a GPT partition table");
	head[511] = 0;
	put(512, (struct span)SPAN_LIT("EFI PURT"));
	check_unknown();
}
END_TEST

/* --- what the formats' own programs make ----------------------------------------------------- */

#define PROGRAMS "PATH=$PATH:/usr/sbin:/sbin; "

static struct span read_part(int fd, uint64_t at, uint8_t *buf, size_t n)
{
	ssize_t got = pread(fd, buf, n, (off_t)at);

	ck_assert_int_ge(got, 0);
	return span_of(buf, (size_t)got);
}

static void read_image(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	blank((uint64_t)st.st_size);
	read_part(fd, 0, head, sizeof head);
	read_part(fd, DISK_COPY_AT, copy, sizeof copy);
	read_part(fd, disk.size_bytes - disk.tail.n, tail, disk.tail.n);
	close(fd);
}

START_TEST(images_of_their_programs)
{
	static const struct {
		const char *program, *command, *what;
	} made[] = {
	    {"mkfs.ext2", "mkfs.ext2 -qF image", "an ext2, ext3 or ext4 filesystem"},
	    {"mkfs.ext4", "mkfs.ext4 -qF image", "an ext2, ext3 or ext4 filesystem"},
	    {"mkswap", "mkswap image", "swap space"},
	    {"mkfs.minix", "mkfs.minix -3 image", "a MINIX filesystem"},
	    {"mkfs.bfs", "mkfs.bfs image", "a BFS filesystem"},
	    {"mkfs.cramfs", "mkfs.cramfs folder image", "a cramfs filesystem"},
	    {"mkfs.erofs", "mkfs.erofs image folder", "an EROFS filesystem"},
	    {"mkfs.fat", "mkfs.fat -F 32 image", "a FAT filesystem"},
	    {"mkfs.ntfs", "mkfs.ntfs -FQ image", "an NTFS filesystem"},
	    {"mkfs.xfs", "truncate -s 320M image; mkfs.xfs image", "an XFS filesystem"},
	    {"mksquashfs", "mksquashfs folder image -noappend", "a SquashFS filesystem"},
	    {"sfdisk", "echo ,,83 | sfdisk image", "an MBR partition table"},
	    {"sfdisk", "printf 'label: gpt\\n,,L\\n' | sfdisk image", "a GPT partition table"},
	    {"cryptsetup",
		"echo x | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "
		"image",
		"a LUKS volume"},
	};
	char dir[] = "/tmp/disk.XXXXXX", command[256];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(mkdir("folder", 0755), 0);
	for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
		snprintf(
		    command, sizeof command, PROGRAMS "command -v %s >/dev/null", made[i].program);
		if (system(command) != 0) {
			snprintf(command, sizeof command, "%s is not installed", made[i].program);
			skip_test(command);
			continue;
		}
		snprintf(command, sizeof command,
		    PROGRAMS
		    "rm -f image; truncate -s 40M image; (%s) >log 2>&1 || { cat log; exit 1; }",
		    made[i].command);
		ck_assert_int_eq(system(command), 0);
		read_image("image");
		check_is(DISK_FOREIGN, made[i].what);
	}
	ck_assert_int_eq(system("rm -f image log; rmdir folder"), 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    blank_devices,
	    what_has_no_name,
	    btrfs_is_btrfs,
	    btrfs_that_is_damaged,
	    btrfs_whose_making_was_cut_off,
	    each_is_known,
	    each_is_known_at_the_very_end,
	    one_at_the_end_is_read_in_the_tail_only,
	    partition_tables,
	    images_of_their_programs,
	    NULL,
	};

	return suite_of("disk", tests);
}
