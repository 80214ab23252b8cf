// Stays connected with libnats at its defaults, and prints what becomes of that; see ../README.md.

#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Between two connections, and before a first one is tried again.
enum { BETWEEN_MS = 20, AGAIN_MS = 1000 };

typedef struct {
    int number;
    natsConnection *connection;
    natsSubscription *sub;
    bool connected, closed;
    int64_t last, at;
} staying;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// Nobody listens any more: libnats has SIGPIPE ignored.
static void flush(void) {
    putchar('\n');
    if (fflush(stdout) != 0) {
        exit(1);
    }
}

static void say(const staying *it, const char *event, const char *text) {
    pthread_mutex_lock(&lock);
    printf("{\"event\":\"%s\",\"connection\":%d", event, it->number);
    if (text != NULL) {
        // Its words have no backslash, and at most quotes.
        printf(",\"text\":\"");
        for (; *text != '\0'; text++) {
            putchar(*text == '"' ? '\'' : *text);
        }
        putchar('"');
    }
    putchar('}');
    flush();
    pthread_mutex_unlock(&lock);
}

static void on_disconnected(natsConnection *connection, void *it) {
    say(it, "disconnected", NULL);
}

static void on_reconnected(natsConnection *connection, void *it) {
    say(it, "reconnected", NULL);
}

static void on_error(natsConnection *connection, natsSubscription *sub, natsStatus status, void *it) {
    const char *text = NULL;
    natsConnection_GetLastError(connection, &text);
    say(it, "error", text != NULL && *text != '\0' ? text : natsStatus_GetText(status));
}

static void on_closed(natsConnection *connection, void *closure) {
    staying *it = closure;
    const char *text = NULL;
    if (natsConnection_GetLastError(connection, &text) != NATS_OK) {
        say(it, "error", text);
    }
    pthread_mutex_lock(&lock);
    // One that has never been connected is tried again.
    bool closed = it->closed = it->connected;
    pthread_mutex_unlock(&lock);
    if (closed) {
        say(it, "closed", NULL);
    }
}

static void on_message(natsConnection *connection, natsSubscription *sub, natsMsg *message, void *closure) {
    staying *it = closure;
    char text[32] = {0};
    int length = natsMsg_GetDataLength(message);
    memcpy(text, natsMsg_GetData(message), length < 31 ? length : 31);
    natsMsg_Destroy(message);
    int64_t number = strtoll(text, NULL, 10), now = nats_Now();
    pthread_mutex_lock(&lock);
    if (it->last > 0 && number > it->last + 1) {
        printf("{\"event\":\"gap\",\"connection\":%d,\"missed\":%" PRId64 ",\"ms\":%" PRId64 "}", it->number,
               number - it->last - 1, now - it->at);
        flush();
    }
    it->last = number;
    it->at = now;
    pthread_mutex_unlock(&lock);
}

static void must(natsStatus status) {
    if (status != NATS_OK) {
        nats_PrintLastErrorStack(stderr);
        exit(1);
    }
}

static natsStatus connect_one(staying *it, char **arguments) {
    natsOptions *options = NULL;
    must(natsOptions_Create(&options));
    must(natsOptions_SetURL(options, arguments[1]));
    must(natsOptions_SetUserInfo(options, arguments[2], arguments[3]));
    must(natsOptions_SetDisconnectedCB(options, on_disconnected, it));
    must(natsOptions_SetReconnectedCB(options, on_reconnected, it));
    must(natsOptions_SetErrorHandler(options, on_error, it));
    must(natsOptions_SetClosedCB(options, on_closed, it));
    natsStatus status = natsConnection_Connect(&it->connection, options);
    natsOptions_Destroy(options);
    if (status != NATS_OK) {
        return status;
    }
    pthread_mutex_lock(&lock);
    it->connected = true;
    pthread_mutex_unlock(&lock);
    must(natsConnection_Subscribe(&it->sub, it->connection, arguments[4], on_message, it));
    status = natsConnection_Flush(it->connection);
    if (status != NATS_OK) {
        say(it, "error", natsStatus_GetText(status));
    }
    say(it, "connected", NULL);
    return NATS_OK;
}

// Whether it is closed for good.
static bool talk(staying *it, const char *publish, int number) {
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    pthread_mutex_lock(&lock);
    bool ended = it->closed;
    if (it->last > 0 && !ended) {
        printf("{\"event\":\"seen\",\"connection\":%d,\"number\":%" PRId64 "}", it->number, it->last);
        flush();
    }
    pthread_mutex_unlock(&lock);
    if (!ended) {
        natsStatus status = natsConnection_PublishString(it->connection, publish, text);
        if (status != NATS_OK) {
            say(it, "error", natsStatus_GetText(status));
        }
    }
    return ended;
}

int main(int given, char **arguments) {
    if (given < 6 || given > 8) {
        fprintf(stderr, "usage: staying URL USER PASSWORD SUBSCRIBE PUBLISH [COUNT [SECONDS]]\n");
        return 2;
    }
    int count = given > 6 ? atoi(arguments[6]) : 1;
    int64_t pause_ms = given > 7 ? (int64_t)(atof(arguments[7]) * 1000) : 500;
    staying *all = calloc(count, sizeof *all);
    for (int number = 0; number < count; number++) {
        staying *it = &all[number];
        it->number = number;
        natsStatus status;
        while ((status = connect_one(it, arguments)) != NATS_OK) {
            if (count == 1) {
                must(status);
            }
            say(it, "error", natsStatus_GetText(status));
            nats_Sleep(AGAIN_MS);
        }
        nats_Sleep(BETWEEN_MS);
    }
    for (int number = 1;; number++) {
        int ended = 0;
        for (int one = 0; one < count; one++) {
            ended += talk(&all[one], arguments[5], number);
        }
        if (ended == count) {
            return 0;
        }
        nats_Sleep(pause_ms);
    }
}
