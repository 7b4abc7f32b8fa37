/* What the engine says, as an event, a list and a container: nothing but a document makes it
 * through, and no bound is crossed. */
#include "fuzz.h"

#include "codec/json.h"
#include "names/docker.h"

#include <stdlib.h>

static struct docker_container container;

static void check_id(void *ctx, const char *id)
{
	(void)ctx;
	if (strlen(id) != DOCKER_ID_BYTES - 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span text = span_of(data, n);
	struct docker_event event;

	if (docker_event_read(text, &event) == E_OK && event.kind != DOCKER_EVENT_OTHER)
		check_id(NULL, event.id);
	docker_list_read(text, check_id, NULL);
	if (docker_container_read(text, &container) != E_OK)
		return 0;
	for (size_t i = 0; i < container.n_names; i++)
		if (container.names[i].n == 0 || container.names[i].n > DOCKER_TEXT_BYTES)
			abort();
	return 0;
}
