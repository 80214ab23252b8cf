import io.nats.client.Connection;
import io.nats.client.ConnectionListener;
import io.nats.client.Consumer;
import io.nats.client.ErrorListener;
import io.nats.client.Nats;
import io.nats.client.Options;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeoutException;

/** Stays connected with jnats at its defaults, and prints what becomes of that; see ../README.md. */
final class Staying implements ConnectionListener, ErrorListener {
    /** Between two connections, and before a first one is tried again. */
    private static final long BETWEEN = 20;

    private static final long AGAIN = 1000;

    private final int number;
    private final String publish;
    private Connection connection;
    private boolean closed = false;
    private int sent = 0;
    private long last = 0;
    private long at = 0;

    private Staying(int number, String publish) {
        this.number = number;
        this.publish = publish;
    }

    private void say(String event, String more) {
        synchronized (Staying.class) {
            System.out.println("{\"event\":\"" + event + "\",\"connection\":" + number + more + "}");
            // Nobody listens any more.
            if (System.out.checkError()) {
                System.exit(1);
            }
        }
    }

    private void complain(String text) {
        String quoted = String.valueOf(text).replace("\\", "\\\\").replace("\"", "\\\"");
        say("error", ",\"text\":\"" + quoted.replace("\n", " ") + "\"");
    }

    private synchronized void heard(String text) {
        long number = Long.parseLong(text);
        long now = System.nanoTime();
        if (last > 0 && number > last + 1) {
            say("gap", ",\"missed\":" + (number - last - 1) + ",\"ms\":" + (now - at) / 1_000_000);
        }
        last = number;
        at = now;
    }

    private synchronized void tell() {
        if (last > 0) {
            say("seen", ",\"number\":" + last);
        }
    }

    private synchronized boolean isClosed() {
        return closed;
    }

    @Override
    public void connectionEvent(Connection connection, Events event) {
        switch (event) {
            case DISCONNECTED -> say("disconnected", "");
            case RECONNECTED -> say("reconnected", "");
            case CLOSED -> {
                synchronized (this) {
                    // One that has never been connected is tried again.
                    closed = this.connection != null;
                }
                if (isClosed()) {
                    say("closed", "");
                }
            }
            default -> { }
        }
    }

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

    private void connect(Options.Builder builder, String subscribe) throws IOException, InterruptedException {
        Connection made = Nats.connect(builder.connectionListener(this).errorListener(this).build());
        synchronized (this) {
            connection = made;
        }
        connection
                .createDispatcher(it -> heard(new String(it.getData(), StandardCharsets.UTF_8)))
                .subscribe(subscribe);
        try {
            connection.flush(Duration.ofSeconds(10));
        } catch (TimeoutException error) {
            complain("flush: " + error.getMessage());
        }
        say("connected", "");
    }

    private void publishOne() {
        sent += 1;
        try {
            connection.publish(publish, String.valueOf(sent).getBytes(StandardCharsets.UTF_8));
        } catch (IllegalStateException error) {
            complain("publish: " + error.getMessage());
        }
    }

    public static void main(String[] arguments) throws Exception {
        int count = arguments.length > 5 ? Integer.parseInt(arguments[5]) : 1;
        double seconds = arguments.length > 6 ? Double.parseDouble(arguments[6]) : 0.5;
        List<Staying> all = new ArrayList<>();
        Thread talks = new Thread(() -> talk(all, Math.round(seconds * 1000)));
        for (int number = 0; number < count; number++) {
            Staying staying = new Staying(number, arguments[4]);
            while (true) {
                Options.Builder builder =
                        Options.builder().server(arguments[0]).userInfo(arguments[1], arguments[2]);
                try {
                    staying.connect(builder, arguments[3]);
                    break;
                } catch (IOException error) {
                    if (count == 1) {
                        throw error;
                    }
                    staying.complain("at first: " + error.getMessage());
                    Thread.sleep(AGAIN);
                }
            }
            synchronized (all) {
                all.add(staying);
            }
            if (number == 0) {
                talks.setDaemon(true);
                talks.start();
            }
            Thread.sleep(BETWEEN);
        }
        while (!all.stream().allMatch(Staying::isClosed)) {
            Thread.sleep(BETWEEN);
        }
        System.exit(0);
    }

    private static void talk(List<Staying> all, long pause) {
        while (true) {
            List<Staying> now;
            synchronized (all) {
                now = List.copyOf(all);
            }
            for (Staying staying : now) {
                if (!staying.isClosed()) {
                    staying.publishOne();
                    staying.tell();
                }
            }
            try {
                Thread.sleep(pause);
            } catch (InterruptedException ended) {
                return;
            }
        }
    }
}
