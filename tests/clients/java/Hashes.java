import org.springframework.security.crypto.argon2.Argon2PasswordEncoder;
import org.springframework.security.crypto.bcrypt.BCryptPasswordEncoder;

/** Prints a hash of the password from each library, at its defaults, as JSON by name. */
public class Hashes {
    public static void main(String[] arguments) {
        String password = arguments[0];
        String argon2 = Argon2PasswordEncoder.defaultsForSpringSecurity_v5_8().encode(password);
        String bcrypt = new BCryptPasswordEncoder().encode(password);
        System.out.println("{\"spring argon2\":\"" + argon2 + "\",\"spring bcrypt\":\"" + bcrypt + "\"}");
    }
}
