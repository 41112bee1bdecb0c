/*
 * queue.c
 *	  Events by time: a binary heap.
 */
#include "sim.h"

#include <stdlib.h>

static bool
earlier(const Event *a, const Event *b)
{
	return a->at != b->at ? a->at < b->at : a->sequence < b->sequence;
}

void
queue_add(Queue *queue, Event event)
{
	int			i = queue->count++;

	if (queue->count > queue->room)
	{
		queue->room = queue->room == 0 ? 256 : 2 * queue->room;
		queue->events = realloc(queue->events, (size_t) queue->room * sizeof(Event));
		if (queue->events == NULL)
			abort();
	}
	event.sequence = queue->sequence++;
	while (i > 0 && earlier(&event, &queue->events[(i - 1) / 2]))
	{
		queue->events[i] = queue->events[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	queue->events[i] = event;
}

/* There must be one. */
Event
queue_take(Queue *queue)
{
	Event		first = queue->events[0];
	Event		last = queue->events[--queue->count];
	int			i = 0;

	for (;;)
	{
		int			child = 2 * i + 1;

		if (child >= queue->count)
			break;
		if (child + 1 < queue->count &&
			earlier(&queue->events[child + 1], &queue->events[child]))
			child++;
		if (!earlier(&queue->events[child], &last))
			break;
		queue->events[i] = queue->events[child];
		i = child;
	}
	queue->events[i] = last;
	return first;
}
