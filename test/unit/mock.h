/*
 * mock.h
 *	  For tests of the client: what a server of one's own is made of.
 */
#ifndef ELECTOR_MOCK_H
#define ELECTOR_MOCK_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER "\"header\":{\"cluster_id\":\"14655024145418835072\"," \
	"\"member_id\":\"11046527456118344142\",\"revision\":\"5\",\"raft_term\":\"2\"}"

static void
mock_send_all(int fd, const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		sent = send(fd, data, length, MSG_NOSIGNAL);

		if (sent <= 0)
			_exit(0);
		data += sent;
		length -= (size_t) sent;
	}
}

static void
mock_send(int fd, const char *text)
{
	mock_send_all(fd, text, strlen(text));
}

/* One request whole, headers and body; false when the connection has ended. */
static bool
mock_receive(int fd, char *request, size_t size)
{
	size_t		length = 0;

	for (;;)
	{
		ssize_t		got = recv(fd, request + length, size - 1 - length, 0);
		char	   *body;
		char	   *content_length;

		if (got <= 0)
			return false;
		length += (size_t) got;
		request[length] = '\0';
		body = strstr(request, "\r\n\r\n");
		content_length = strstr(request, "Content-Length: ");
		if (body != NULL && content_length != NULL &&
			length >= (size_t) (body + 4 - request) + strtoul(content_length + 16, NULL, 10))
			return true;
	}
}

#endif							/* ELECTOR_MOCK_H */
