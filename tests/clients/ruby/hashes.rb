# Prints a hash of the password from each library, at its defaults, as JSON by name.

require "bcrypt"
require "json"

puts JSON.generate({ "bcrypt" => BCrypt::Password.create(ARGV[0]) })
