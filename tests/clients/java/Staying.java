import io.nats.client.Connection;
import io.nats.client.ConnectionListener;
import io.nats.client.Consumer;
import io.nats.client.ErrorListener;
import io.nats.client.Nats;
import io.nats.client.Options;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** Stays connected with jnats at its defaults, and prints what becomes of that; see ../README.md. */
final class Staying {
    private static final long PAUSE = 500;

    private static long last = 0;
    private static long at = 0;

    private static synchronized void say(String event, String more) {
        System.out.println("{\"event\":\"" + event + "\"" + more + "}");
        // Nobody listens any more.
        if (System.out.checkError()) {
            System.exit(1);
        }
    }

    private static void complain(String text) {
        String quoted = String.valueOf(text).replace("\\", "\\\\").replace("\"", "\\\"");
        say("error", ",\"text\":\"" + quoted.replace("\n", " ") + "\"");
    }

    private static synchronized void heard(String text) {
        long number = Long.parseLong(text);
        long now = System.nanoTime();
        if (last > 0 && number > last + 1) {
            long ms = TimeUnit.NANOSECONDS.toMillis(now - at);
            say("gap", ",\"missed\":" + (number - last - 1) + ",\"ms\":" + ms);
        }
        last = number;
        at = now;
    }

    private static synchronized void tell() {
        if (last > 0) {
            say("seen", ",\"number\":" + last);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String publish = arguments[4];
        CountDownLatch closed = new CountDownLatch(1);
        ConnectionListener listener = (connection, event) -> {
            switch (event) {
                case DISCONNECTED -> say("disconnected", "");
                case RECONNECTED -> say("reconnected", "");
                case CLOSED -> {
                    say("closed", "");
                    closed.countDown();
                }
                default -> { }
            }
        };
        ErrorListener errors = new ErrorListener() {
            @Override
            public void errorOccurred(Connection connection, String error) {
                complain(error);
            }

            @Override
            public void exceptionOccurred(Connection connection, Exception exception) {
                complain(exception.toString());
            }

            @Override
            public void slowConsumerDetected(Connection connection, Consumer consumer) {
                complain("slow consumer");
            }
        };
        Options options = Options.builder()
                .server(arguments[0])
                .userInfo(arguments[1], arguments[2])
                .connectionListener(listener)
                .errorListener(errors)
                .build();
        Connection connection = Nats.connect(options);
        connection
                .createDispatcher(it -> heard(new String(it.getData(), StandardCharsets.UTF_8)))
                .subscribe(arguments[3]);
        connection.flush(Duration.ofSeconds(10));
        say("connected", "");
        int number = 0;
        do {
            number += 1;
            try {
                connection.publish(publish, String.valueOf(number).getBytes(StandardCharsets.UTF_8));
            } catch (IllegalStateException error) {
                complain("publish: " + error.getMessage());
            }
            tell();
        } while (!closed.await(PAUSE, TimeUnit.MILLISECONDS));
        System.exit(0);
    }
}
