/* module.h - kernel modules: init_module(2), and what depmod(8) says they need. */
#ifndef SYS_MODULE_H
#define SYS_MODULE_H

/* Loads one module file (.ko, or compressed as the kernel can: .ko.gz, .ko.xz, .ko.zst). One that
 * is loaded already is fine. 0 or -errno. Blocks while the module starts: for a worker. */
int module_load_file(const char *path);

/* Loads what a line of a module list names: an absolute path; a path relative to
 * /lib/modules/<release>; or, when the word has neither a slash nor a dot, the name of a module,
 * which is looked up in modules.dep together with what it depends on. As module_load_file();
 * -ENOENT: there is no such module; one that is built in is fine. */
int module_load(const char *word);

#endif
