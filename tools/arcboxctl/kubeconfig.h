/* kubeconfig.h - the configuration that k3s writes for kubectl, made fit for this machine.
 *
 * It comes from a guest, and a kubeconfig can name programs for kubectl to run: so just the lines
 * that k3s itself writes are taken, and anything else is refused. The server becomes the one that
 * this machine can reach, and the name "default", which all of them have, one of our own. */
#ifndef ARCBOXCTL_KUBECONFIG_H
#define ARCBOXCTL_KUBECONFIG_H

#include "base/cursor.h"

/* Writes `text` with `server` and `name` in it to `out`. E_MALFORMED: k3s does not write such a
 * file; E_SPACE. */
enum err kubeconfig_adapt(struct span text, struct span server, struct span name, struct wr *out);

#endif
