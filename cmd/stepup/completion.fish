# Completion of stepup for fish. In ~/.config/fish/config.fish: stepup completion fish | source
function __stepup_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l answer ($words[1] __complete -- $words[2..] "$word" 2>/dev/null)
    if test "$answer" != ':files'
        printf '%s\n' $answer
        return
    end
    set -l flag (string match -r '^-[^=]*=' -- "$word")
    for path in (__fish_complete_path (string replace -- "$flag" '' "$word"))
        echo "$flag$path"
    end
end
complete -c stepup -f -a '(__stepup_complete)'
