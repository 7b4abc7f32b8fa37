#include "codec/disk.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A signature. It is at `at` from the start of the device, or, where `back` is given, so far before
 * its end, which is rounded down to a multiple of `align` first. Some may be in several places. */
struct row {
	const char *what;
	struct span magic;
	uint32_t at;
	uint32_t back, align;
	uint32_t every, count; /* of the places; 0: there is one */
};

/* Linux, Documentation/filesystems/btrfs.rst; fs/btrfs/disk-io.h: the superblock is at 64 KiB, its
 * copies are at 64 MiB and 256 GiB. mkfs.btrfs gives it the second magic until all is written. */
#define BTRFS_MAGIC_AT 0x40
#define BTRFS_SUPER_AT 0x10000
static const struct span btrfs = SPAN_LIT("_BHRfS_M");
static const struct span btrfs_unfinished = SPAN_LIT("!BHRfS_M");

/* Those that stand in more than one row. */
#define BCACHEFS_MAGIC "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"
#define MD_1           "\xfc\x4e\x2b\xa9\x01\0\0\0"
#define ZFS_NAMES_BE   "\x01\x00\0\0\0\0\0\0\0\0\0\x01"
#define ZFS_NAMES_LE   "\x01\x01\0\0\0\0\0\0\0\0\0\x01"

static const char ext[] = "an ext2, ext3 or ext4 filesystem";
static const char luks[] = "a LUKS volume";
static const char lvm[] = "an LVM physical volume";
static const char md[] = "a member of a Linux RAID array";
static const char zfs[] = "a member of a ZFS pool";
static const char bcachefs[] = "a bcachefs filesystem";
static const char swap[] = "swap space";
static const char hibernated[] = "a hibernated system";
static const char fat[] = "a FAT filesystem";
static const char f2fs[] = "an F2FS filesystem";
static const char nilfs[] = "a NILFS2 filesystem";
static const char reiserfs[] = "a ReiserFS filesystem";
static const char hfs[] = "an HFS filesystem";
static const char ufs[] = "a UFS filesystem";
static const char minix[] = "a MINIX filesystem";
static const char udf[] = "a UDF filesystem";
static const char iso9660[] = "an ISO 9660 filesystem";
static const char bitlocker[] = "a BitLocker volume";
static const char stratis[] = "a member of a Stratis pool";
static const char gpt[] = "a GPT partition table";

/* In this order: what contains other things comes before what may be left of them, and long
 * signatures before short ones. "Linux" is the kernel's source. */
static const struct row rows[] = {
    /* LUKS On-Disk Format Specification 1.2.3, figure 1; LUKS2 1.1.2, section 2: the second header
     * is where the first one ends. */
    {luks, SPAN_LIT("LUKS\xba\xbe"), .at = 0},
    {luks, SPAN_LIT("SKUL\xba\xbe"), .at = 0x4000, .every = 0x4000, .count = 256},
    /* [MS-FVE] and the BitLocker boot sectors of Windows Vista and 7; "To Go" is one of FAT, too.
     */
    {bitlocker, SPAN_LIT("-FVE-FS-"), .at = 3},
    {bitlocker, SPAN_LIT("\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"),
	.at = 0x1a8},
    /* LVM2, lib/label/label.h and lib/format_text/layout.h: in one of the first four sectors. */
    {lvm, SPAN_LIT("LVM2 001"), .at = 0x18, .every = 512, .count = 4},
    {lvm, SPAN_LIT("HM\x01\0"), .at = 0},
    {lvm, SPAN_LIT("HM\x02\0"), .at = 0},
    /* Linux, include/uapi/linux/raid/md_p.h: 1.1, 1.2, 1.0, and 0.90 of either byte order. */
    {md, SPAN_LIT(MD_1), .at = 0},
    {md, SPAN_LIT(MD_1), .at = 0x1000},
    {md, SPAN_LIT(MD_1), .back = 0x2000, .align = 0x1000},
    {md, SPAN_LIT("\xfc\x4e\x2b\xa9"), .back = 0x10000, .align = 0x10000},
    {md, SPAN_LIT("\xa9\x2b\x4e\xfc"), .back = 0x10000, .align = 0x10000},
    /* SNIA Common RAID Disk Data Format 2.0, section 5; Intel's, as mdadm's super-intel.c has it.
     */
    {"a member of a DDF array", SPAN_LIT("\xde\x11\xde\x11"), .back = 512, .align = 512},
    {"a member of a DDF array", SPAN_LIT("\x11\xde\x11\xde"), .back = 512, .align = 512},
    {"a member of an Intel array", SPAN_LIT("Intel Raid ISM Cfg Sig. "), .back = 1024,
	.align = 512},
    /* ZFS On-Disk Specification, chapter 1: four labels of 256 KiB, two at either end, with a list
     * of names at 16 KiB, in XDR, of either byte order. */
    {zfs, SPAN_LIT(ZFS_NAMES_BE), .at = 0x4000, .every = 0x40000, .count = 2},
    {zfs, SPAN_LIT(ZFS_NAMES_LE), .at = 0x4000, .every = 0x40000, .count = 2},
    {zfs, SPAN_LIT(ZFS_NAMES_BE), .back = 0x7c000, .align = 0x40000, .every = 0x40000, .count = 2},
    {zfs, SPAN_LIT(ZFS_NAMES_LE), .back = 0x7c000, .align = 0x40000, .every = 0x40000, .count = 2},
    /* bcachefs-tools, libbcachefs/bcachefs_format.h: at 4 KiB, 2 MiB, and 1 MiB before the end. */
    {bcachefs, SPAN_LIT(BCACHEFS_MAGIC), .at = 0x1018},
    {bcachefs, SPAN_LIT(BCACHEFS_MAGIC), .at = 0x200018},
    {bcachefs, SPAN_LIT(BCACHEFS_MAGIC), .back = 0xfffe8, .align = 1},
    /* Its first version, and bcache: Linux, include/uapi/linux/bcache.h */
    {"a bcache device",
	SPAN_LIT("\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"), .at = 0x1018},
    /* Device mapper: cryptsetup, lib/verity/verity.c; Linux, drivers/md/dm-integrity.c and
     * dm-vdo; stratisd, the module strat_engine/backstore/blockdev. */
    {"a dm-verity hash device", SPAN_LIT("verity\0\0"), .at = 0},
    {"a dm-integrity device", SPAN_LIT("integrt\0"), .at = 0},
    {"a VDO device", SPAN_LIT("dmvdo001"), .at = 0},
    {stratis, SPAN_LIT("!Stra0tis\x86\xff\x02^\x41rh"), .at = 512 + 4},
    {stratis, SPAN_LIT("!Stra0tis\x86\xff\x02^\x41rh"), .at = 9 * 512 + 4},
    {"a Ceph BlueStore device", SPAN_LIT("bluestore block device"), .at = 0},
    {"an Oracle ASM disk", SPAN_LIT("ORCLDISK"), .at = 32},
    /* Linux, fs/xfs/libxfs/xfs_format.h */
    {"an XFS filesystem", SPAN_LIT("XFSB"), .at = 0},
    /* Linux, include/linux/f2fs_fs.h: two superblocks, each 1 KiB into its block. */
    {f2fs, SPAN_LIT("\x10\x20\xf5\xf2"), .at = 0x400},
    {f2fs, SPAN_LIT("\x10\x20\xf5\xf2"), .at = 0x1400},
    /* Linux, fs/erofs/erofs_fs.h */
    {"an EROFS filesystem", SPAN_LIT("\xe2\xe1\xf5\xe0"), .at = 0x400},
    /* Linux, fs/squashfs/squashfs_fs.h; of either byte order */
    {"a SquashFS filesystem", SPAN_LIT("hsqs"), .at = 0},
    {"a SquashFS filesystem", SPAN_LIT("sqsh"), .at = 0},
    {"a cramfs filesystem", SPAN_LIT("\x45\x3d\xcd\x28"), .at = 0},
    {"a romfs filesystem", SPAN_LIT("-rom1fs-"), .at = 0},
    {"a BFS filesystem", SPAN_LIT("\xce\xfa\xad\x1b"), .at = 0},
    /* Linux, fs/jfs/jfs_superblock.h and jfs_filsys.h */
    {"a JFS filesystem", SPAN_LIT("JFS1"), .at = 0x8000},
    /* reiserfsprogs, include/reiserfs_fs.h: ReIsErFs, ReIsEr2Fs, ReIsEr3Fs; ReIsEr4 */
    {reiserfs, SPAN_LIT("ReIsEr"), .at = 0x10034},
    {reiserfs, SPAN_LIT("ReIsErFs"), .at = 0x2034},
    {reiserfs, SPAN_LIT("ReIsErFs"), .at = 0x2014},
    {reiserfs, SPAN_LIT("ReIsEr4"), .at = 0x10000},
    /* Linux, include/uapi/linux/nilfs2_ondisk.h: the revision, which is 2, and the magic. */
    {nilfs, SPAN_LIT("\x02\0\0\0\0\0\x34\x34"), .at = 0x400},
    {nilfs, SPAN_LIT("\x02\0\0\0\0\0\x34\x34"), .back = 0x1000, .align = 0x1000},
    /* Linux, fs/ocfs2/ocfs2_fs.h and include/uapi/linux/gfs2_ondisk.h */
    {"an OCFS2 filesystem", SPAN_LIT("OCFSV2"), .at = 0x400, .every = 0x400, .count = 8},
    {"a GFS2 filesystem", SPAN_LIT("\x01\x16\x19\x70"), .at = 0x10000},
    /* Apple File System Reference, nx_superblock_t; Technical Note 1150 (HFS Plus) */
    {"an APFS container", SPAN_LIT("NXSB"), .at = 32},
    {hfs, SPAN_LIT("H+\0\x04"), .at = 0x400},
    {hfs, SPAN_LIT("HX\0\x05"), .at = 0x400},
    {hfs, SPAN_LIT("BD"), .at = 0x400},
    /* FreeBSD, sys/ufs/ffs/fs.h: at 8, 64 or 256 KiB */
    {ufs, SPAN_LIT("\x19\x01\x54\x19"), .at = 0x255c, .every = 0x2000, .count = 32},
    {ufs, SPAN_LIT("\x54\x19\x01\x00"), .at = 0x255c, .every = 0x2000, .count = 32},
    /* VMFS, as libblkid has it (vmfs.c): the volume, and the filesystem in it */
    {"a VMFS volume", SPAN_LIT("\x0d\xd0\x01\xc0"), .at = 0x100000},
    {"a VMFS volume", SPAN_LIT("\x5e\xf1\xab\x2f"), .at = 0x200000},
    /* mkswap(8); Linux, include/linux/swap.h, kernel/power/swap.c and user space's suspend(8): at
     * the end of the first page, whose size is the processor's. */
    {swap, SPAN_LIT("SWAPSPACE2"), .at = 0xff6, .every = 0x1000, .count = 16},
    {swap, SPAN_LIT("SWAP-SPACE"), .at = 0xff6, .every = 0x1000, .count = 16},
    {hibernated, SPAN_LIT("S1SUSPEND"), .at = 0xff6, .every = 0x1000, .count = 16},
    {hibernated, SPAN_LIT("S2SUSPEND"), .at = 0xff6, .every = 0x1000, .count = 16},
    {hibernated, SPAN_LIT("ULSUSPEND"), .at = 0xff6, .every = 0x1000, .count = 16},
    {hibernated, SPAN_LIT("LINHIB0001"), .at = 0xff6, .every = 0x1000, .count = 16},
    /* ECMA-119, section 8; the High Sierra format before it; ECMA-167, part 2, section 9 */
    {iso9660, SPAN_LIT("CD001"), .at = 0x8001},
    {iso9660, SPAN_LIT("CDROM"), .at = 0x8009},
    {udf, SPAN_LIT("BEA01"), .at = 0x8001},
    {udf, SPAN_LIT("NSR0"), .at = 0x8001, .every = 0x800, .count = 64},
    {udf, SPAN_LIT("BOOT2"), .at = 0x8001},
    {udf, SPAN_LIT("TEA01"), .at = 0x8001},
    {udf, SPAN_LIT("CDW02"), .at = 0x8001},
    /* The boot sectors of Windows: NTFS, ReFS, exFAT (its specification, section 3.1), FAT
     * (fatgen103) */
    {"an NTFS filesystem", SPAN_LIT("NTFS    "), .at = 3},
    {"a ReFS filesystem", SPAN_LIT("ReFS\0"), .at = 3},
    {"an exFAT filesystem", SPAN_LIT("EXFAT   "), .at = 3},
    {fat, SPAN_LIT("MSWIN4.1"), .at = 3},
    {fat, SPAN_LIT("FAT"), .at = 0x36},
    {fat, SPAN_LIT("FAT32"), .at = 0x52},
    {fat, SPAN_LIT("MSDOS"), .at = 0x36},
    {fat, SPAN_LIT("MSWIN"), .at = 0x52},
    /* Linux, Documentation/filesystems/ext4/super.rst. After what is as good at the same place. */
    {ext, SPAN_LIT("\x53\xef"), .at = 0x438},
    /* Linux, include/uapi/linux/minix_fs.h: versions 1, 2, each with two lengths of names, and 3 */
    {minix, SPAN_LIT("\x7f\x13"), .at = 0x410},
    {minix, SPAN_LIT("\x8f\x13"), .at = 0x410},
    {minix, SPAN_LIT("\x68\x24"), .at = 0x410},
    {minix, SPAN_LIT("\x78\x24"), .at = 0x410},
    {minix, SPAN_LIT("\x5a\x4d"), .at = 0x418},
    /* UEFI Specification 2.10, section 5.3: in block 1, and again in the last one. */
    {gpt, SPAN_LIT("EFI PART"), .at = 512},
    {gpt, SPAN_LIT("EFI PART"), .at = 4096},
    {gpt, SPAN_LIT("EFI PART"), .back = 512, .align = 512},
    {gpt, SPAN_LIT("EFI PART"), .back = 4096, .align = 4096},
    /* Linux, block/partitions: sgi.c, sun.c, mac.h, msdos.c (BSD, in block 1 or in the first one)
     */
    {"an SGI partition table", SPAN_LIT("\x0b\xe5\xa9\x41"), .at = 0},
    {"a Sun partition table", SPAN_LIT("\xda\xbe"), .at = 508},
    {"an Apple partition table", SPAN_LIT("PM\0\0"), .at = 512},
    {"a BSD disk label", SPAN_LIT("\x57\x45\x56\x82"), .at = 64},
    {"a BSD disk label", SPAN_LIT("\x57\x45\x56\x82"), .at = 512},
};

/* The n bytes at `at` of the device, from a piece of it; empty when they are not in it. */
static struct span within(struct span piece, uint64_t piece_at, uint64_t at, size_t n)
{
	if (at < piece_at || piece.n < n || at - piece_at > piece.n - n)
		return span_of(NULL, 0);
	return span_of(piece.p + (at - piece_at), n);
}

static struct span bytes_at(const struct disk *d, uint64_t at, size_t n)
{
	struct span s = within(d->head, 0, at, n);

	if (s.n == 0)
		s = within(d->copy, DISK_COPY_AT, at, n);
	if (s.n == 0)
		s = within(d->tail, d->size_bytes - d->tail.n, at, n);
	return s;
}

static bool is_at(const struct disk *d, uint64_t at, struct span magic)
{
	return span_eq(bytes_at(d, at, magic.n), magic);
}

static bool fits(const struct disk *d, const struct row *row)
{
	uint64_t at = row->at, end;

	if (row->back) {
		end = d->size_bytes / row->align * row->align;
		if (end < row->back)
			return false;
		at = end - row->back;
	}
	for (uint32_t i = 0; i == 0 || i < row->count; i++)
		if (is_at(d, at + (uint64_t)i * row->every, row->magic))
			return true;
	return false;
}

/* What ends a boot sector, and the table before it: four entries of 16 bytes that begin with a flag
 * and have a type at 4 (UEFI Specification 2.10, section 5.2). NULL when it is none. */
static const char *boot_sector(const struct disk *d)
{
	struct span table = bytes_at(d, 446, 64);
	bool used = false;

	if (!is_at(d, 510, (struct span)SPAN_LIT("\x55\xaa")))
		return NULL;
	for (size_t i = 0; i < table.n; i += 16) {
		if (table.p[i] & 0x7f)
			return "a boot sector";
		used |= table.p[i + 4] != 0;
	}
	return used ? "an MBR partition table" : "an empty MBR partition table or a boot sector";
}

/* Anything but a Btrfs; NULL when nothing is known. */
static const char *foreign(const struct disk *d)
{
	for (size_t i = 0; i < COUNT(rows); i++)
		if (fits(d, &rows[i]))
			return rows[i].what;
	if (!is_at(d, BTRFS_SUPER_AT + BTRFS_MAGIC_AT, btrfs_unfinished) &&
	    is_at(d, DISK_COPY_AT + BTRFS_MAGIC_AT, btrfs))
		return "a damaged Btrfs filesystem";
	return boot_sector(d);
}

enum disk_kind disk_identify(const struct disk *d, const char **what)
{
	const char *name;

	if (is_at(d, BTRFS_SUPER_AT + BTRFS_MAGIC_AT, btrfs)) {
		*what = "a Btrfs filesystem";
		return DISK_BTRFS;
	}
	name = foreign(d);
	*what = name ? name : "nothing known";
	return name ? DISK_FOREIGN : DISK_UNKNOWN;
}
