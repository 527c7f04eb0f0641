// The main class of the local Neo4j: groovy.ui.GroovyMain neo4j.groovy <home> <configuration file>
import java.nio.file.Path
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder

try {
    def dbms = new DatabaseManagementServiceBuilder(Path.of(args[0])).loadPropertiesFromFile(Path.of(args[1])).build()
    Runtime.runtime.addShutdownHook(new Thread({ dbms.shutdown() }))
} catch (Throwable error) {
    error.printStackTrace()
    System.exit(1) // threads that were started would keep the process alive
}
