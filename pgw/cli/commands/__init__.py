"""One module for each command or group; `app.COMMANDS` names them, and imports one only when it is asked for."""
