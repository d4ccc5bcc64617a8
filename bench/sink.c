/*
 * A peer that stores nothing and answers at once, for measuring a client alone.
 *
 * It is a name server and a broker in one: every topic has QUEUES queues, all of them here.  Sends and batches are
 * counted for each queue, so that maximum offsets tell how many came; oneway requests are counted and not answered.
 *
 * Usage: sink       prints its port; ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUES 8
#define READ_BYTES (256 * 1024)
#define MAX_FRAME (16u << 20)
#define MAX_ANSWER 1024 /* room for one answer */

enum { SEND = 10, CREATE_TOPIC = 17, MAX_OFFSET = 30, HEARTBEAT = 34, UNREGISTER = 35, ROUTE = 105, SEND_V2 = 310, SEND_BATCH = 320 };
enum { UNSUPPORTED = 3, ONEWAY = 2 };

struct bytes {
    unsigned char *data;
    size_t used, room;
};

struct peer {
    int fd;
    int waits_for_room;
    struct bytes in, out;
    size_t sent;
};

static long long offsets[QUEUES];
static int port, poller;

static void reserve(struct bytes *b, size_t more)
{
    if (b->used + more <= b->room)
        return;
    b->room = 2 * (b->used + more);
    b->data = realloc(b->data, b->room);
    if (b->data == NULL)
        abort();
}

static uint32_t number_at(const unsigned char *p)
{
    uint32_t value;
    memcpy(&value, p, 4);
    return ntohl(value);
}

/* The number after a name in a JSON header; a number in quotes when the name ends with one. */
static long field(const unsigned char *header, size_t size, const char *name, long otherwise)
{
    const char *found = memmem(header, size, name, strlen(name));
    return found != NULL ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

static long messages_in(const unsigned char *body, size_t size)
{
    long count = 0;
    while (size >= 4) {
        uint32_t length = number_at(body);
        if (length < 4 || length > size)
            break;
        body += length;
        size -= length;
        count++;
    }
    return count;
}

static void answer(struct peer *peer, long opaque, int code, const char *fields, const char *body)
{
    size_t body_size = strlen(body);
    reserve(&peer->out, MAX_ANSWER + body_size);
    unsigned char *start = peer->out.data + peer->out.used;
    int header = snprintf((char *)start + 8, MAX_ANSWER - 8,
                          "{\"code\":%d,\"extFields\":{%s},\"flag\":1,\"language\":\"JAVA\",\"opaque\":%ld,"
                          "\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}",
                          code, fields, opaque);
    uint32_t total = htonl(4 + header + body_size), header_size = htonl(header);
    memcpy(start, &total, 4);
    memcpy(start + 4, &header_size, 4);
    memcpy(start + 8 + header, body, body_size);
    peer->out.used += 8 + header + body_size;
}

static void stored(struct peer *peer, long opaque, long queue, long count, int oneway)
{
    char fields[256];
    long long offset = offsets[queue];
    offsets[queue] += count;
    if (oneway)
        return;
    snprintf(fields, sizeof fields,
             "\"queueId\":\"%ld\",\"TRACE_ON\":\"true\",\"MSG_REGION\":\"DefaultRegion\","
             "\"msgId\":\"7F00000100002A9F%016llX\",\"queueOffset\":\"%lld\"",
             queue, offset, offset);
    answer(peer, opaque, 0, fields, "");
}

static void route(struct peer *peer, long opaque)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"brokerDatas\":[{\"brokerAddrs\":{\"0\":\"127.0.0.1:%d\"},\"brokerName\":\"sink\",\"cluster\":\"sink\"}],"
             "\"filterServerTable\":{},\"queueDatas\":[{\"brokerName\":\"sink\",\"perm\":6,\"readQueueNums\":%d,"
             "\"topicSysFlag\":0,\"writeQueueNums\":%d}]}",
             port, QUEUES, QUEUES);
    answer(peer, opaque, 0, "", body);
}

static void serve(struct peer *peer, const unsigned char *header, size_t header_size, const unsigned char *body, size_t body_size)
{
    char fields[64];
    long code = field(header, header_size, "\"code\":", -1);
    long opaque = field(header, header_size, "\"opaque\":", 0);
    int oneway = (int)field(header, header_size, "\"flag\":", 0) & ONEWAY;
    const char *queue_name = code == SEND_V2 || code == SEND_BATCH ? "\"e\":\"" : "\"queueId\":\"";
    unsigned long queue = (unsigned long)field(header, header_size, queue_name, 0) % QUEUES;

    switch (code) {
    case SEND:
    case SEND_V2:
        stored(peer, opaque, queue, 1, oneway);
        break;
    case SEND_BATCH:
        stored(peer, opaque, queue, messages_in(body, body_size), oneway);
        break;
    case MAX_OFFSET:
        snprintf(fields, sizeof fields, "\"offset\":\"%lld\"", offsets[queue]);
        answer(peer, opaque, 0, fields, "");
        break;
    case ROUTE:
        route(peer, opaque);
        break;
    case CREATE_TOPIC:
    case HEARTBEAT:
    case UNREGISTER:
        answer(peer, opaque, 0, "", "");
        break;
    default:
        if (!oneway)
            answer(peer, opaque, UNSUPPORTED, "", "");
    }
}

/* Serves every whole frame; 0 when the peer talks nonsense. */
static int serve_all(struct peer *peer)
{
    unsigned char *data = peer->in.data;
    size_t at = 0;
    while (peer->in.used - at >= 8) {
        size_t total = number_at(data + at), header = number_at(data + at + 4) & 0xffffff;
        if (total > MAX_FRAME || total < 4 + header)
            return 0;
        if (peer->in.used - at < 4 + total)
            break;
        serve(peer, data + at + 8, header, data + at + 8 + header, total - 4 - header);
        at += 4 + total;
    }
    peer->in.used -= at;
    memmove(data, data + at, peer->in.used);
    return 1;
}

static int send_answers(struct peer *peer)
{
    while (peer->sent < peer->out.used) {
        ssize_t count = send(peer->fd, peer->out.data + peer->sent, peer->out.used - peer->sent, MSG_NOSIGNAL);
        if (count < 0)
            return errno == EAGAIN;
        peer->sent += count;
    }
    peer->sent = peer->out.used = 0;
    return 1;
}

static int turn(struct peer *peer)
{
    reserve(&peer->in, READ_BYTES);
    ssize_t count = recv(peer->fd, peer->in.data + peer->in.used, peer->in.room - peer->in.used, 0);
    if (count == 0 || (count < 0 && errno != EAGAIN))
        return 0;
    if (count > 0) {
        peer->in.used += count;
        if (!serve_all(peer))
            return 0;
    }
    if (!send_answers(peer))
        return 0;
    int waits = peer->out.used != 0;
    if (waits != peer->waits_for_room) {
        struct epoll_event event = {.events = EPOLLIN | (waits ? EPOLLOUT : 0), .data.ptr = peer};
        epoll_ctl(poller, EPOLL_CTL_MOD, peer->fd, &event);
        peer->waits_for_room = waits;
    }
    return 1;
}

static void greet(int listener)
{
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct peer *peer = calloc(1, sizeof *peer);
    peer->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void bury(struct peer *peer)
{
    close(peer->fd);
    free(peer->in.data);
    free(peer->out.data);
    free(peer);
}

static int listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 128) ||
        getsockname(listener, (struct sockaddr *)&address, &size)) {
        perror("sink");
        exit(1);
    }
    port = ntohs(address.sin_port);
    return listener;
}

int main(void)
{
    static struct peer input, listening; /* only their addresses matter */
    struct epoll_event events[64], event = {.events = EPOLLIN, .data.ptr = &listening};
    int listener = listen_on_loopback();
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = &input;
    epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    printf("%d\n", port);
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer == &input)
                return 0;
            if (peer == &listening)
                greet(listener);
            else if (!turn(peer))
                bury(peer);
        }
    }
}
