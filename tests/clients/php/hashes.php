<?php

// Prints a hash of the password from each of PHP's schemes, at its defaults, as JSON by name. A PHP may be built
// without argon2.

$password = $argv[1];
$hashes = [
    'password_hash bcrypt' => password_hash($password, PASSWORD_BCRYPT),
    // As Laravel's hasher calls it.
    'Laravel' => password_hash($password, PASSWORD_BCRYPT, ['cost' => 12]),
];
if (defined('PASSWORD_ARGON2ID')) {
    $hashes['password_hash argon2id'] = password_hash($password, PASSWORD_ARGON2ID);
}
echo json_encode($hashes), "\n";
