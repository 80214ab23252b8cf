// Stays connected with libnats at its defaults, and prints what becomes of that; see ../README.md.

#include <inttypes.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAUSE_MS = 500 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool closed;
static int64_t last, at;

// Nobody listens any more: libnats has SIGPIPE ignored.
static void flush(void) {
    putchar('\n');
    if (fflush(stdout) != 0) {
        exit(1);
    }
}

static void say(const char *event, const char *text) {
    pthread_mutex_lock(&lock);
    printf("{\"event\":\"%s\"", event);
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

static void on_disconnected(natsConnection *connection, void *unused) {
    say("disconnected", NULL);
}

static void on_reconnected(natsConnection *connection, void *unused) {
    say("reconnected", NULL);
}

static void on_error(natsConnection *connection, natsSubscription *sub, natsStatus status, void *unused) {
    const char *text = NULL;
    natsConnection_GetLastError(connection, &text);
    say("error", text != NULL && *text != '\0' ? text : natsStatus_GetText(status));
}

static void on_closed(natsConnection *connection, void *unused) {
    const char *text = NULL;
    if (natsConnection_GetLastError(connection, &text) != NATS_OK) {
        say("error", text);
    }
    say("closed", NULL);
    pthread_mutex_lock(&lock);
    closed = true;
    pthread_mutex_unlock(&lock);
}

static void on_message(natsConnection *connection, natsSubscription *sub, natsMsg *message, void *unused) {
    char text[32] = {0};
    int length = natsMsg_GetDataLength(message);
    memcpy(text, natsMsg_GetData(message), length < 31 ? length : 31);
    natsMsg_Destroy(message);
    int64_t number = strtoll(text, NULL, 10), now = nats_Now();
    pthread_mutex_lock(&lock);
    if (last > 0 && number > last + 1) {
        printf("{\"event\":\"gap\",\"missed\":%" PRId64 ",\"ms\":%" PRId64 "}", number - last - 1, now - at);
        flush();
    }
    last = number;
    at = now;
    pthread_mutex_unlock(&lock);
}

static void must(natsStatus status) {
    if (status != NATS_OK) {
        nats_PrintLastErrorStack(stderr);
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count != 6) {
        fprintf(stderr, "usage: staying URL USER PASSWORD SUBSCRIBE PUBLISH\n");
        return 2;
    }
    natsOptions *options = NULL;
    natsConnection *connection = NULL;
    natsSubscription *sub = NULL;
    must(natsOptions_Create(&options));
    must(natsOptions_SetURL(options, arguments[1]));
    must(natsOptions_SetUserInfo(options, arguments[2], arguments[3]));
    must(natsOptions_SetDisconnectedCB(options, on_disconnected, NULL));
    must(natsOptions_SetReconnectedCB(options, on_reconnected, NULL));
    must(natsOptions_SetErrorHandler(options, on_error, NULL));
    must(natsOptions_SetClosedCB(options, on_closed, NULL));
    must(natsConnection_Connect(&connection, options));
    must(natsConnection_Subscribe(&sub, connection, arguments[4], on_message, NULL));
    must(natsConnection_Flush(connection));
    say("connected", NULL);
    for (int number = 1;; number++) {
        char text[16];
        snprintf(text, sizeof text, "%d", number);
        natsStatus status = natsConnection_PublishString(connection, arguments[5], text);
        if (status != NATS_OK) {
            say("error", natsStatus_GetText(status));
        }
        pthread_mutex_lock(&lock);
        bool ended = closed;
        if (last > 0 && !ended) {
            printf("{\"event\":\"seen\",\"number\":%" PRId64 "}", last);
            flush();
        }
        pthread_mutex_unlock(&lock);
        if (ended) {
            return 0;
        }
        nats_Sleep(PAUSE_MS);
    }
}
